package delayed

import (
	"context"
	"math"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	shortestWait = 10 * time.Millisecond // to Redis, no time at all means for ever
	lookAgain    = time.Second           // after which a queue is asked again that was paused when we did not know it yet
	longestWait  = 5 * time.Second       // after which a queue is asked again in any case
)

// limits are what operators want of a queue, as it stands in Q_control. take_limited reads the numbers itself.
type limits struct {
	paused                   bool
	concurrency, rate, burst string
}

func limitsOf(control map[string]string) limits {
	_, paused := control["paused"]
	return limits{paused, control["concurrency"], control["rate"], control["burst"]}
}

// counted tells whether only so many tasks may be held at once.
func (l *limits) counted() bool { return l != nil && finite(l.concurrency) }

// any tells whether there is anything to heed. What makes no sense is no limit.
func (l limits) any() bool { return l.paused || finite(l.concurrency) || finite(l.rate) }

func finite(text string) bool {
	number, err := strconv.ParseFloat(text, 64)
	return err == nil && !math.IsNaN(number) && !math.IsInf(number, 0)
}

// gate is whether a worker may take from one of its queues.
type gate struct {
	limits  atomic.Pointer[limits] // what the heartbeat has heard last; nil for none
	grouped atomic.Bool            // groups may have tasks waiting

	// The taker's alone.
	heeded  *limits   // those of its last look
	opensAt time.Time // from when on it is worth asking
	ended   int64     // how many of the worker's tasks had ended when it asked last
}

// learn is told what operators want now. It tells whether that is something new.
func (g *gate) learn(found limits) bool {
	known := g.limits.Load()
	if found.any() && known != nil && *known == found || !found.any() && known == nil {
		return false
	}
	if found.any() {
		g.limits.Store(&found)
	} else {
		g.limits.Store(nil)
	}
	return true
}

// heed is what operators want. Where that has changed, it is worth asking again.
func (g *gate) heed() *limits {
	if found := g.limits.Load(); found != g.heeded {
		g.heeded, g.opensAt = found, time.Time{}
	}
	return g.heeded
}

// open tells whether it is worth asking.
func (g *gate) open(now time.Time) bool {
	l := g.heed()
	return l == nil || !l.paused && !now.Before(g.opensAt)
}

// opensIn is how long it takes until it is worth asking; 0 if it is now, or if time does not help.
func (g *gate) opensIn(now time.Time) time.Duration {
	if l := g.heed(); l == nil || l.paused {
		return 0
	}
	return max(g.opensAt.Sub(now), 0)
}

// refused is told what take_limited said: after how long to ask again, or a time below 0 if the queue is paused.
func (g *gate) refused(pause time.Duration) {
	switch {
	case pause == 0:
		g.opensAt = time.Time{}
	case pause < 0:
		g.opensAt = time.Now().Add(lookAgain)
	default:
		g.opensAt = time.Now().Add(min(pause, longestWait))
	}
}

// ahead is how many tasks to hold beyond those that run. With a limit for tasks at once there are none, as they would take the places
// of others that could run; nor if they may be such as other workers can run, and this one cannot.
func (w *Worker) ahead(b *book) int {
	if b.gate.heed().counted() || w.stale.inRow.Load() > 0 {
		return 0
	}
	return b.pace.ahead
}

// inTurn are the queues in the order in which to look: those that may not be asked come last.
func (w *Worker) inTurn(now time.Time) []*book {
	books, closed := make([]*book, 0, len(w.books)), []*book(nil)
	for _, b := range w.books {
		if b.gate.open(now) {
			books = append(books, b)
		} else {
			closed = append(closed, b)
		}
	}
	return append(books, closed...)
}

// pop is the command that waits for a notification, or nil if no queue may be asked; and how long to wait.
func (w *Worker) pop(now time.Time) (packed []byte, timeout time.Duration) {
	timeout = w.queues[0].timeout
	args := []string{"BLPOP"}
	for _, b := range w.books {
		timeout = min(timeout, b.queue.timeout)
		if b.gate.open(now) {
			args = append(args, b.queue.store.Keys.Noti)
		} else if wait := b.gate.opensIn(now); wait > 0 {
			timeout = min(timeout, max(wait, shortestWait))
		}
	}
	if len(args) == 1 {
		return nil, timeout
	}
	return appendCommand(nil, append(args, strconv.FormatFloat(timeout.Seconds(), 'f', 3, 64))...), timeout
}

// takeUnder takes under these leases, within the limits of the queue.
func (w *Worker) takeUnder(b *book, names []string, options TakeOptions) (taken Taken, err error) {
	queue := b.queue.over(w.takes)
	if b.gate.heed() == nil {
		return queue.store.Take(context.Background(), names, options)
	}
	b.gate.ended = w.finished.Load()
	taken, pause, err := queue.store.TakeLimited(context.Background(), names, options)
	b.gate.refused(pause)
	return taken, err
}

// linger waits until a queue may be asked again, or one of our own tasks ends, whose place may be the one that was missing.
func (w *Worker) linger(d time.Duration) {
	w.low.Store(w.inFlight() - 1)
	if w.reopen() {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.room:
	case <-w.stopping:
	}
}

// reopen lets queues be asked again where one of our own tasks has ended since we were refused for want of a place.
func (w *Worker) reopen() (some bool) {
	ended := w.finished.Load()
	for _, b := range w.books {
		if b.gate.heed().counted() && b.gate.ended != ended && !b.gate.opensAt.IsZero() {
			b.gate.opensAt, some = time.Time{}, true
		}
	}
	return some
}

// turnedAway is called when a queue had tasks and gave none; false if there is nothing left to do. With Burst a worker ends when the
// queues are empty or paused, not when a limit is reached.
func (w *Worker) turnedAway(b *book) bool {
	now := time.Now()
	wait := b.gate.opensIn(now)
	switch {
	case !w.burst || b.gate.open(now): // or another worker was quicker
		return true
	case wait > 0:
		w.linger(wait)
		return true
	}
	if n := w.inFlight(); n > 0 {
		w.awaitRoom(n - 1)
		return true
	}
	return false
}
