package delayed

import (
	"bytes"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"time"
)

const mostUnanswered = 64 // endings without a reply before the slots wait: what a kill may repeat beyond what was being executed

// endings sends the commands that end leases, over a connection of their own, without waiting for the replies. What had no reply
// when the connection broke is sent again over the next one: each such command is fenced, so that twice does no harm.
type endings struct {
	broken func(error) // called, without the lock, when the connection broke

	mu       sync.Mutex
	changed  sync.Cond // written or waiting changed, or the connection broke
	conn     *conn     // nil while there is none
	out      []byte    // the buffer of what is being written
	writing  bool
	added    uint64 // how many commands were posted over this connection …
	written  uint64 // … and how many of them went out
	waiting  []posted
	first    int      // waiting[first:] have no reply yet …
	sent     int      // … so many of those, from the first, have been written …
	groups   []int    // … in commands that end so many of them each …
	repeated int      // … and so many had been sent before
	group    []posted // the reader's: the buffer of what next returns
	progress time.Time
	crowded  bool // a slot waits for replies
	readers  sync.WaitGroup
}

type posted struct {
	packed   []byte // a command of its own; if it is nil,
	field    []byte // a field to HDEL of
	hash     []byte // this hash, both as they stand in a command: those that go out together share one
	answered func(reply any, repeated bool)
}

func newEndings(broken func(error)) *endings {
	e := &endings{broken: broken}
	e.changed.L = &e.mu
	return e
}

// post sends a fenced command; answered will get its reply. It returns when the command has been written to the socket: the caller
// begins its next task only then, so that a killed process repeats nothing but what it was executing. Commands that other
// goroutines post meanwhile go out together in the next write.
func (e *endings) post(p posted) {
	e.mu.Lock()
	if e.first == len(e.waiting) {
		e.waiting, e.first = e.waiting[:0], 0
		e.progress = time.Now()
	}
	e.waiting = append(e.waiting, p)
	if e.conn == nil {
		e.mu.Unlock()
		return
	}
	e.added++
	c, mine := e.conn, e.added
	for e.conn == c && e.written < mine {
		if e.writing {
			e.changed.Wait()
		} else {
			e.writing = true
			e.mu.Unlock()
			runtime.Gosched() // let those that are about to post join
			e.mu.Lock()
			e.write(c)
		}
	}
	e.mu.Unlock()
}

// write writes what was posted; the lock is held on entry and on return, but not meanwhile.
func (e *endings) write(c *conn) {
	upto := e.added
	e.pack()
	out := e.out
	e.writing = true
	e.mu.Unlock()
	err := c.SetWriteDeadline(time.Now().Add(deadline)) // the heartbeat, which watches over stalls, may be among those who wait
	if err == nil {
		_, err = c.Write(out)
	}
	if err != nil {
		e.fail(c, err)
	}
	e.mu.Lock()
	e.writing = false
	if e.conn == c {
		e.written = upto
	}
	e.changed.Broadcast()
}

// pack makes the commands for what has not been sent.
func (e *endings) pack() {
	e.out = e.out[:0]
	unsent := e.waiting[e.first+e.sent:]
	for i := 0; i < len(unsent); {
		size := 1
		if unsent[i].packed != nil {
			e.out = append(e.out, unsent[i].packed...)
		} else {
			for i+size < len(unsent) && unsent[i+size].packed == nil && bytes.Equal(unsent[i+size].hash, unsent[i].hash) {
				size++
			}
			e.out = append(append(append(e.out, '*'), strconv.Itoa(size+2)...), "\r\n$4\r\nHDEL\r\n"...)
			e.out = append(e.out, unsent[i].hash...)
			for _, p := range unsent[i : i+size] {
				e.out = append(e.out, p.field...)
			}
		}
		e.groups = append(e.groups, size)
		i += size
	}
	e.sent += len(unsent)
}

// keepUp waits while too many endings have no reply. Redis drops what it has not read from a killed process, so that these, too,
// are repeated then. Only slots call it: the heartbeat, which watches over stalls, must not wait for replies.
func (e *endings) keepUp() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := e.conn; c != nil && e.conn == c && len(e.waiting)-e.first > mostUnanswered; {
		e.crowded = true
		e.changed.Wait()
	}
}

// open uses c from now on, and first sends again what has had no reply.
func (e *endings) open(c *conn) error {
	e.readers.Wait()
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.writing {
		e.changed.Wait()
	}
	e.waiting, e.first = append([]posted(nil), e.waiting[e.first:]...), 0
	e.conn, e.repeated, e.written, e.progress = c, len(e.waiting), e.added, time.Now()
	e.sent, e.groups = 0, nil
	e.readers.Add(1)
	go e.read(c)
	if len(e.waiting) > 0 {
		e.write(c)
	}
	return nil
}

// close drops the connection. What was posted stays known until it has been answered over another one.
func (e *endings) close() {
	e.mu.Lock()
	c := e.conn
	e.mu.Unlock()
	e.drop(c)
	e.readers.Wait()
}

// drop drops c, and tells whether it was still in use.
func (e *endings) drop(c *conn) bool {
	e.mu.Lock()
	mine := e.conn == c
	if mine {
		e.conn = nil
		e.changed.Broadcast()
	}
	e.mu.Unlock()
	c.closeIfAny()
	return mine
}

func (e *endings) fail(c *conn, err error) {
	if e.drop(c) {
		e.broken(err)
	}
}

// read reads replies until the connection breaks.
func (e *endings) read(c *conn) {
	defer e.readers.Done()
	for {
		reply, err := c.read()
		refusal, refused := reply.(redisError)
		if err == nil && refused && refusal.misplaced() {
			err = refusal // and it stays among the waiting
		}
		if err != nil {
			e.fail(c, err)
			return
		}
		group, repeated := e.next(c.in.Buffered() == 0)
		for i, p := range group {
			p.answered(share(reply, i), repeated)
		}
		if refused {
			e.fail(c, refusal)
			return
		}
	}
}

// share is the i-th ending's part of the reply to an HDEL that ended several leases. If it is less than their number, some were lost:
// how many is certain, which ones is not.
func share(reply any, i int) any {
	if ended, ok := reply.(int64); ok {
		return min(max(ended-int64(i), 0), 1)
	}
	return reply
}

// next is what a reply is the answer to.
func (e *endings) next(last bool) (group []posted, repeated bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	size := e.groups[0]
	e.groups = e.groups[1:]
	group = append(e.group[:0], e.waiting[e.first:e.first+size]...)
	e.group = group
	clear(e.waiting[e.first : e.first+size])
	e.first += size
	e.sent -= size
	if repeated = e.repeated > 0; repeated {
		e.repeated -= size
	}
	if last {
		e.progress = time.Now()
	}
	if e.crowded && len(e.waiting)-e.first <= mostUnanswered/2 {
		e.crowded = false
		e.changed.Broadcast()
	}
	if e.first == len(e.waiting) {
		e.waiting, e.first = e.waiting[:0], 0
		e.changed.Broadcast()
	} else if e.first > 4096 && e.first > len(e.waiting)/2 {
		e.waiting = append(e.waiting[:0], e.waiting[e.first:]...)
		e.first = 0
	}
	return group, repeated
}

// settle waits for the replies to all that was posted. The watch over stalled connections ends it in any case.
func (e *endings) settle() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.conn != nil && e.first < len(e.waiting) {
		e.changed.Wait()
	}
	if e.first < len(e.waiting) {
		return errors.New("delayed: the connection broke before Redis had answered")
	}
	return nil
}

// watch gives up a connection that has not answered for too long.
func (e *endings) watch() {
	e.mu.Lock()
	c := e.conn
	stalled := c != nil && e.first < len(e.waiting) && time.Since(e.progress) > deadline
	e.mu.Unlock()
	if stalled {
		e.fail(c, errors.New("delayed: Redis did not answer in time"))
	}
}
