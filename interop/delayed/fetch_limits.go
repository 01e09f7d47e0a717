package delayed

import (
	"context"
	"strconv"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const shortestWait = 10 * time.Millisecond // to Redis, no time at all means for ever

// ahead is how many tasks to hold beyond those that run. With a limit for tasks at once there are none, as they would take the places
// of others that could run; nor if they may be such as other workers can run, and this one cannot.
func (w *Worker) ahead(b *lease.Pool) int {
	if b.Gate.Current().Counted() || w.unready.inRow.Load() > 0 {
		return 0
	}
	return b.Prefetch.Ahead
}

// inTurn are the queues in the order in which to look: those that may not be asked come last.
func (w *Worker) inTurn(now time.Time) []*lease.Pool {
	books, closed := make([]*lease.Pool, 0, len(w.pools)), []*lease.Pool(nil)
	for _, b := range w.pools {
		if b.Gate.Open(now) {
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
	for _, b := range w.pools {
		timeout = min(timeout, w.queueOf(b).timeout)
		if b.Gate.Open(now) {
			args = append(args, b.Store.Keys.Noti)
		} else if wait := b.Gate.OpensIn(now); wait > 0 {
			timeout = min(timeout, max(wait, shortestWait))
		}
	}
	if len(args) == 1 {
		return nil, timeout
	}
	return conn.AppendCommand(nil, append(args, strconv.FormatFloat(timeout.Seconds(), 'f', 3, 64))...), timeout
}

// fetchUnder takes under these leases, within the limits of the queue.
func (w *Worker) fetchUnder(b *lease.Pool, names []string, options rdb.TakeOptions) (taken rdb.TakeResult, err error) {
	store := b.Store.Over(w.fetchConn)
	if b.Gate.Current() == nil {
		return store.Take(context.Background(), names, options)
	}
	b.Gate.Ended = w.finished.Load()
	taken, pause, err := store.TakeLimited(context.Background(), names, options)
	b.Gate.Refused(pause)
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
	for _, b := range w.pools {
		if b.Gate.Current().Counted() && b.Gate.Ended != ended && !b.Gate.OpensAt.IsZero() {
			b.Gate.OpensAt, some = time.Time{}, true
		}
	}
	return some
}

// turnedAway is called when a queue had tasks and gave none; false if there is nothing left to do. With Burst a worker ends when the
// queues are empty or paused, not when a limit is reached.
func (w *Worker) turnedAway(b *lease.Pool) bool {
	now := time.Now()
	wait := b.Gate.OpensIn(now)
	switch {
	case !w.burst || b.Gate.Open(now): // or another worker was quicker
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
