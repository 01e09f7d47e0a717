package conn

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// Ending is a fenced command that ends leases.
type Ending struct {
	Packed   []byte      // a command of its own, which needs a reply unless it is Quiet; or
	Finish   *rdb.Finish // a task that holds something, which one script ends with others
	Store    *rdb.Store  // of this queue; if both are nil,
	Field    []byte      // a field to HDEL of
	Hash     []byte      // this hash, both as they stand in a command: those that go out together share one
	Quiet    bool        // Packed or Finish may go without a reply: whether it has worked, the field says, which is gone then
	Ask      bool        // its lease may be lost, so that the reply matters
	Answered func(reply any, repeated bool)
}

// AckPair sends the commands that end leases, over two connections of its own: while one is being settled, endings go out over the
// other.
type AckPair struct {
	Pipes   [2]*AckPipe
	current atomic.Uint32
}

func NewAckPair(lives func(time.Time) bool, broken func(error)) *AckPair {
	e := &AckPair{}
	for i := range e.Pipes {
		e.Pipes[i] = &AckPipe{lives: lives, broken: broken}
		e.Pipes[i].changed.L = &e.Pipes[i].mu
	}
	return e
}

func (e *AckPair) Post(p Ending) { e.Pipes[e.current.Load()].Post(p) }

func (e *AckPair) PostLater(p Ending) { e.Pipes[e.current.Load()].postLater(p) }

// Swap settles what went out since the last but one call, while other endings go out.
func (e *AckPair) Swap() error {
	last := e.current.Load()
	e.current.Store(1 - last)
	return e.Pipes[last].Settle()
}

// Settle waits until all that was posted so far is done.
func (e *AckPair) Settle() error { return errors.Join(e.Pipes[0].Settle(), e.Pipes[1].Settle()) }

// Open uses the two connections from now on. The next settle sends again what has had no reply.
func (e *AckPair) Open(connections []*Conn) error {
	return errors.Join(e.Pipes[0].Open(connections[0]), e.Pipes[1].Open(connections[1]))
}

// Close drops the connections. What was posted stays known until it has been answered over others.
func (e *AckPair) Close() {
	e.Pipes[0].close()
	e.Pipes[1].close()
}
