package delayed

import (
	"bytes"
	"errors"
	"runtime"
	"strconv"
	"sync"
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

// endings sends the commands that end leases, over a connection of their own. The ending of a success is sent without a reply
// (CLIENT REPLY OFF), and said once more with the next command that has one: that does nothing where the first worked, ends what
// was refused, and proves that it is done. Endings are fenced, so they may be repeated; what was not answered when the connection
// broke is sent again over the next one.
//
// Why no reply: a process that is killed while replies wait to be read resets its connection. Redis then fails to write to it, closes
// it, and drops what it had not read: endings that the process had sent long before.
//
// The connection belongs to one goroutine at a time: the one that has set busy. It writes what others have posted along with its own,
// and, if there are replies, reads them before anybody writes again.
type endings struct {
	lives  func() bool // whether all leases live for certain; if not, each ending needs its reply
	broken func(error) // called, without the lock, when the connection broke

	mu         sync.Mutex
	changed    sync.Cond // busy or the connection changed
	busy       bool
	conn       *conn // nil while there is none
	posted     []ending
	spare      []ending // the buffer of the next posted
	added      uint64   // how many endings were posted, ever …
	written    uint64   // … so many of them were sent without a reply or answered …
	answered   uint64   // … and so many answered
	silent     bool     // Redis sends no replies at the moment
	canSilence bool     // some proxies do not know CLIENT REPLY

	// The busy goroutine's alone.
	unanswered []ending // sent, perhaps over an earlier connection
	out        []byte
	groups     []int // how many endings each command in out ends
}

var (
	hush  = appendCommand(nil, "CLIENT", "REPLY", "OFF")
	speak = appendCommand(nil, "CLIENT", "REPLY", "ON")
)

func newEndings(lives func() bool, broken func(error)) *endings {
	e := &endings{lives: lives, broken: broken}
	e.changed.L = &e.mu
	return e
}

// post sends an ending. It returns when it has been written to the socket, or, if it has a reply, when that has been read: the caller
// begins its next task only then, so that a killed process repeats nothing but what it was executing. While there is no connection
// it returns at once.
func (e *endings) post(p ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	mine := e.add(p)
	for c := e.conn; c != nil && e.conn == c && e.written < mine; {
		if e.claim() {
			e.mu.Unlock()
			runtime.Gosched() // let those that are about to post join
			e.mu.Lock()
			e.send(c, false)
		}
	}
}

// postLater is post for those who must not wait for Redis.
func (e *endings) postLater(p ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.add(p)
	if e.conn != nil {
		go e.settle() //nolint:errcheck // if it fails, the connection has broken, and whoever mends it does this first
	}
}

// settle waits until all that was posted so far is done.
func (e *endings) settle() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	mine := e.added
	for c := e.conn; c != nil && e.conn == c && e.answered < mine; {
		if e.claim() {
			e.send(c, true)
		}
	}
	if e.answered < mine {
		return errors.New("delayed: the connection broke before Redis had answered")
	}
	return nil
}

func (e *endings) add(p ending) uint64 {
	e.posted = append(e.posted, p)
	e.added++
	return e.added
}

// claim makes the caller the owner of the connection, if nobody is; else it waits for a change.
func (e *endings) claim() bool {
	if e.busy {
		e.changed.Wait()
		return false
	}
	e.busy = true
	return true
}

// send sends all that was posted, with replies if anything needs one, and then it waits for them. The caller has claimed the
// connection, and loses it. The lock is held on entry and on return, but not meanwhile.
func (e *endings) send(c *conn, loud bool) {
	upto, posted := e.added, e.posted
	e.posted, e.spare = e.spare[:0], nil
	loud = loud || !e.canSilence
	e.mu.Unlock()

	err := e.exchange(c, posted, loud || needReply(posted) || !e.lives())

	e.mu.Lock()
	clear(posted)
	e.spare = posted[:0]
	e.busy = false
	mine := e.conn == c
	if mine && err == nil {
		e.written = upto
		if !e.silent {
			e.answered = upto
		}
	} else if mine {
		e.conn = nil
	}
	e.changed.Broadcast()
	if err != nil {
		e.mu.Unlock()
		c.Close()
		if mine {
			e.broken(err)
		}
		e.mu.Lock()
	}
}

func needReply(posted []ending) bool {
	for i := range posted {
		if posted[i].ask || posted[i].packed != nil {
			return true
		}
	}
	return false
}

// exchange writes what was posted. If it is loud, so are the confirmations of what has had no reply.
func (e *endings) exchange(c *conn, posted []ending, loud bool) error {
	e.out, e.groups = e.out[:0], e.groups[:0]
	repeated := 0
	switch {
	case loud && e.silent:
		e.out = append(e.out, speak...)
		fallthrough
	case loud:
		e.pack(e.unanswered)
		repeated = len(e.groups)
	case !e.silent:
		e.out = append(e.out, hush...)
	}
	e.pack(posted)
	e.unanswered = append(e.unanswered, posted...)
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	spoke := loud && e.silent
	if _, err := c.Write(e.out); err != nil {
		return err
	}
	e.silent = !loud
	if !loud {
		return nil
	}
	if spoke {
		if reply, err := c.read(); err != nil {
			return err
		} else if refusal, refused := reply.(redisError); refused {
			return refusal
		}
	}
	return e.read(c, repeated)
}

// pack appends the commands for some endings.
func (e *endings) pack(some []ending) {
	for len(some) > 0 {
		size := 1
		if some[0].packed != nil {
			e.out = append(e.out, some[0].packed...)
		} else {
			for size < len(some) && some[size].packed == nil && bytes.Equal(some[size].hash, some[0].hash) {
				size++
			}
			e.out = append(strconv.AppendInt(append(e.out, '*'), int64(size+2), 10), "\r\n$4\r\nHDEL\r\n"...)
			e.out = append(e.out, some[0].hash...)
			for i := range some[:size] {
				e.out = append(e.out, some[i].field...)
			}
		}
		e.groups = append(e.groups, size)
		some = some[size:]
	}
}

// read reads the replies to all that is unanswered; the first commands were repeated. What Redis refused stays unanswered, and the
// connection is given up, as another one may find the right server.
func (e *endings) read(c *conn, repeated int) error {
	var failure error
	waiting := e.unanswered
	kept := 0
	for i, size := range e.groups {
		reply, err := c.read()
		refusal, refused := reply.(redisError)
		if err != nil {
			e.unanswered = e.unanswered[:kept+copy(e.unanswered[kept:], waiting)]
			return err
		}
		if refused {
			failure = refusal
			kept += copy(e.unanswered[kept:], waiting[:size])
		} else {
			for j := range waiting[:size] {
				waiting[j].answered(share(reply, j), i < repeated)
			}
		}
		waiting = waiting[size:]
	}
	clear(e.unanswered[kept:])
	e.unanswered = e.unanswered[:kept]
	return failure
}

// share is the i-th ending's part of the reply to an HDEL that ended several leases. If it is less than their number, some were lost:
// how many is certain, which ones is not.
func share(reply any, i int) any {
	if ended, ok := reply.(int64); ok {
		return min(max(ended-int64(i), 0), 1)
	}
	return reply
}

// open uses c from now on. The next settle sends again what has had no reply.
func (e *endings) open(c *conn) error {
	_, err := c.exchange(speak, 1)
	var refusal redisError
	refused := errors.As(err, &refusal)
	if err != nil && (!refused || refusal.misplaced()) {
		c.Close()
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.busy {
		e.changed.Wait()
	}
	e.conn, e.silent, e.canSilence = c, false, !refused
	return nil
}

// close drops the connection. What was posted stays known until it has been answered over another one.
func (e *endings) close() {
	e.mu.Lock()
	c := e.conn
	e.conn = nil
	e.changed.Broadcast()
	e.mu.Unlock()
	c.closeIfAny()
}
