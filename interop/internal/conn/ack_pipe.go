package conn

import (
	"bytes"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// AckPipe sends endings over a connection. That of a success is sent without a reply (CLIENT REPLY OFF), and said once more with the next
// command that has one: that does nothing where the first worked, ends what was refused, and proves that it is done. Of those that do more
// than HDEL it is asked instead what is still held, did not end, and is sent again. Endings are fenced,
// so they may be repeated; what was not answered when the connection broke is sent again over the next one.
//
// Why no reply: a process that is killed while replies wait to be read resets its connection. Redis then fails to write to it, closes
// it, and drops what it had not read: endings that the process had sent long before.
//
// The connection belongs to one goroutine at a time: the one that has set busy. It writes what others have posted along with its own,
// and, if there are replies, reads them before anybody writes again.
type AckPipe struct {
	lives  func(at time.Time) bool // whether all leases live for certain; if not, each ending needs its reply
	broken func(error)             // called, without the lock, when the connection broke

	mu         sync.Mutex
	changed    sync.Cond // busy or the connection changed
	busy       bool
	conn       *Conn // nil while there is none
	Posted     []Ending
	spare      []Ending // the buffer of the next posted
	added      uint64   // how many endings were posted, ever …
	written    uint64   // … so many of them were sent without a reply or answered …
	answered   uint64   // … and so many answered
	silent     bool     // Redis sends no replies at the moment
	canSilence bool     // some proxies do not know CLIENT REPLY

	// The busy goroutine's alone.
	unanswered []Ending // sent, perhaps over an earlier connection
	out        []byte
	groups     []int     // how many endings each command in out ends, or, if it is negative, asks about
	armed      time.Time // when the connection's deadline was set
}

const (
	finishTasks = 100     // that one script ends
	finishBytes = 1 << 20 // of results that it stores, beside the first
)

// errHeld is why a connection is given up over which an ending was sent that Redis has not carried out: over the next it has a reply.
var errHeld = errors.New("delayed: Redis has not carried out what ends a task; it is sent again")

var (
	hush  = AppendCommand(nil, "CLIENT", "REPLY", "OFF")
	speak = AppendCommand(nil, "CLIENT", "REPLY", "ON")
)

// Post sends an ending. It returns when it has been written to the socket, or, if it has a reply, when that has been read: the caller
// begins its next task only then, so that a killed process repeats nothing but what it was executing. While there is no connection
// it returns at once.
func (l *AckPipe) Post(p Ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := l.add(p)
	for c := l.conn; c != nil && l.conn == c && l.written < mine; {
		if l.claim() {
			l.mu.Unlock()
			runtime.Gosched() // let those that are about to post join
			l.mu.Lock()
			l.send(c, false)
		}
	}
}

// postLater is post for those who must not wait for Redis.
func (l *AckPipe) postLater(p Ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(p)
	if l.conn != nil {
		go l.Settle() //nolint:errcheck // if it fails, the connection has broken, and whoever mends it does this first
	}
}

func (l *AckPipe) Settle() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := l.added
	for c := l.conn; c != nil && l.conn == c && l.answered < mine; {
		if l.claim() {
			l.send(c, true)
		}
	}
	if l.answered < mine {
		return errors.New("delayed: the connection broke before Redis had answered")
	}
	return nil
}

func (l *AckPipe) add(p Ending) uint64 {
	l.Posted = append(l.Posted, p)
	l.added++
	return l.added
}

// claim makes the caller the owner of the connection, if nobody is; else it waits for a change.
func (l *AckPipe) claim() bool {
	if l.busy {
		l.changed.Wait()
		return false
	}
	l.busy = true
	return true
}

// send sends all that was posted, with replies if anything needs one, and then it waits for them. The caller has claimed the
// connection, and loses it. The lock is held on entry and on return, but not meanwhile.
func (l *AckPipe) send(c *Conn, loud bool) {
	upto, posted := l.added, l.Posted
	l.Posted, l.spare = l.spare[:0], nil
	loud = loud || !l.canSilence
	l.mu.Unlock()

	now := time.Now()
	err := l.exchange(c, posted, loud || needReply(posted) || !l.lives(now), now)

	l.mu.Lock()
	clear(posted)
	l.spare = posted[:0]
	l.busy = false
	mine := l.conn == c
	if mine && err == nil {
		l.written = upto
		if !l.silent {
			l.answered = upto
		}
	} else if mine {
		l.conn = nil
	}
	l.changed.Broadcast()
	if err != nil {
		l.mu.Unlock()
		c.Close()
		if mine {
			l.broken(err)
		}
		l.mu.Lock()
	}
}

func needReply(posted []Ending) bool {
	for i := range posted {
		if p := &posted[i]; p.Ask || (p.Packed != nil || p.Finish != nil) && !p.Quiet {
			return true
		}
	}
	return false
}

// exchange writes what was posted. If it is loud, so are the confirmations of what has had no reply.
func (l *AckPipe) exchange(c *Conn, posted []Ending, loud bool, now time.Time) error {
	l.out, l.groups = l.out[:0], l.groups[:0]
	repeated := 0
	switch {
	case loud && l.silent:
		l.out = append(l.out, speak...)
		fallthrough
	case loud:
		l.pack(l.unanswered, true, false)
		repeated = len(l.groups)
	case !l.silent:
		l.out = append(l.out, hush...)
	}
	l.pack(posted, false, l.lives(now))
	l.unanswered = append(l.unanswered, posted...)
	if loud || now.Sub(l.armed) > Deadline/4 { // not for each ending, as it takes a while
		if err := c.SetDeadline(now.Add(Deadline)); err != nil {
			return err
		}
		l.armed = now
	}
	spoke := loud && l.silent
	if _, err := c.Write(l.out); err != nil {
		return err
	}
	l.silent = !loud
	if !loud {
		return nil
	}
	if spoke {
		if reply, err := c.Read(); err != nil {
			return err
		} else if refusal, refused := reply.(ReplyError); refused {
			return refusal
		}
	}
	return l.read(c, repeated)
}

// pack appends the commands for some endings; sent says that they were sent before, so that it is enough to ask what has come of those
// that are Quiet. Else these go together if all leases live: a reply for several does not say which of them were lost.
func (l *AckPipe) pack(some []Ending, sent, live bool) {
	for len(some) > 0 {
		first, size := &some[0], 1
		switch asks := sent && first.Quiet; {
		case first.Packed != nil && !asks:
			l.out, l.groups = append(l.out, first.Packed...), append(l.groups, 1)
		case asks:
			size = run(some, func(p *Ending) bool { return p.Quiet })
			l.packFields("\r\n$5\r\nHMGET\r\n", some[:size])
			l.groups = append(l.groups, -size)
		case first.Finish != nil:
			if live && first.Quiet {
				size = together(some)
			}
			l.packFinish(some[:size])
			l.groups = append(l.groups, size)
		default:
			size = run(some, func(p *Ending) bool { return p.Packed == nil && p.Finish == nil })
			l.packFields("\r\n$4\r\nHDEL\r\n", some[:size])
			l.groups = append(l.groups, size)
		}
		some = some[size:]
	}
}

// run is how many endings, from the first, are such, and of one hash.
func run(some []Ending, such func(*Ending) bool) int {
	size := 1
	for size < len(some) && such(&some[size]) && bytes.Equal(some[size].Hash, some[0].Hash) {
		size++
	}
	return size
}

// together is how many endings, from the first, one script ends: it must not keep others waiting, nor be larger than Redis takes.
func together(some []Ending) int {
	left, keyed := finishBytes, some[0].Finish.Holds.HasOneKey()
	size := run(some, func(p *Ending) bool {
		if p.Finish == nil || !p.Quiet || left < 0 || p.Finish.Holds.HasOneKey() != keyed {
			return false
		}
		left -= len(p.Finish.Result)
		return left >= 0
	})
	return min(size, finishTasks)
}

// packFields appends a command with the fields of endings.
func (l *AckPipe) packFields(verb string, some []Ending) {
	l.out = append(strconv.AppendInt(append(l.out, '*'), int64(len(some)+2), 10), verb...)
	l.out = append(l.out, some[0].Hash...)
	for i := range some {
		l.out = append(l.out, some[i].Field...)
	}
}

// packFinish appends the command that ends tasks which hold something.
func (l *AckPipe) packFinish(some []Ending) {
	tasks := make([]*rdb.Finish, len(some))
	for i := range some {
		tasks[i] = some[i].Finish
	}
	l.out = AppendCommand(l.out, some[0].Store.Finishing(tasks...)...)
}

// read reads the replies to all that is unanswered; the first commands were repeated. What Redis refused stays unanswered, and the
// connection is given up, as another one may find the right server.
func (l *AckPipe) read(c *Conn, repeated int) error {
	var failure error
	waiting := l.unanswered
	kept := 0
	for i, size := range l.groups {
		reply, err := c.Read()
		refusal, refused := reply.(ReplyError)
		asked := size < 0
		size = max(size, -size)
		if err != nil {
			l.unanswered = l.unanswered[:kept+copy(l.unanswered[kept:], waiting)]
			return err
		}
		if refused {
			failure = refusal
			kept += copy(l.unanswered[kept:], waiting[:size])
		} else if held, _ := reply.([]any); asked {
			for j := range waiting[:size] {
				if j < len(held) && held[j] == nil {
					waiting[j].Answered(int64(1), true)
					continue
				}
				failure = errHeld
				waiting[j].Quiet = false
				kept += copy(l.unanswered[kept:], waiting[j:j+1])
			}
		} else {
			for j := range waiting[:size] {
				waiting[j].Answered(share(reply, j), i < repeated)
			}
		}
		waiting = waiting[size:]
	}
	clear(l.unanswered[kept:])
	l.unanswered = l.unanswered[:kept]
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

func (l *AckPipe) Open(c *Conn) error {
	_, err := c.Exchange(speak, 1)
	var refusal ReplyError
	refused := errors.As(err, &refusal)
	if err != nil && (!refused || refusal.Misplaced()) {
		c.Close()
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.busy {
		l.changed.Wait()
	}
	l.conn, l.silent, l.canSilence, l.armed = c, false, !refused, time.Time{}
	for i := range l.unanswered { // perhaps they never arrived
		l.unanswered[i].Quiet = false
	}
	return nil
}

func (l *AckPipe) close() {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.changed.Broadcast()
	l.mu.Unlock()
	c.CloseIfAny()
}
