package delayed

import (
	"errors"
	"sync/atomic"
	"time"
)

// ending is a fenced command that ends leases.
type ending struct {
	packed   []byte // a command of its own, which needs a reply; if it is nil,
	field    []byte // a field to HDEL of
	hash     []byte // this hash, both as they stand in a command: those that go out together share one
	ask      bool   // its lease may be lost, so that the reply matters
	answered func(reply any, repeated bool)
}

// endings sends the commands that end leases, over two connections of its own: while one is being settled, endings go out over the
// other.
type endings struct {
	lines   [2]*line
	current atomic.Uint32
}

func newEndings(lives func(time.Time) bool, broken func(error)) *endings {
	e := &endings{}
	for i := range e.lines {
		e.lines[i] = &line{lives: lives, broken: broken}
		e.lines[i].changed.L = &e.lines[i].mu
	}
	return e
}

func (e *endings) post(p ending) { e.lines[e.current.Load()].post(p) }

func (e *endings) postLater(p ending) { e.lines[e.current.Load()].postLater(p) }

// swap settles what went out since the last but one call, while other endings go out.
func (e *endings) swap() error {
	last := e.current.Load()
	e.current.Store(1 - last)
	return e.lines[last].settle()
}

// settle waits until all that was posted so far is done.
func (e *endings) settle() error { return errors.Join(e.lines[0].settle(), e.lines[1].settle()) }

// open uses the two connections from now on. The next settle sends again what has had no reply.
func (e *endings) open(connections []*conn) error {
	return errors.Join(e.lines[0].open(connections[0]), e.lines[1].open(connections[1]))
}

// close drops the connections. What was posted stays known until it has been answered over others.
func (e *endings) close() {
	e.lines[0].close()
	e.lines[1].close()
}
