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
func (w *Worker) ahead(pool *lease.Pool) int {
	if pool.Gate.Current().Counted() || w.unready.inRow.Load() > 0 {
		return 0
	}
	return pool.Prefetch.Ahead
}

// inTurn are the queues in the order in which to look: those that may not be asked come last.
func (w *Worker) inTurn(now time.Time) []*lease.Pool {
	pools, closed := make([]*lease.Pool, 0, len(w.pools)), []*lease.Pool(nil)
	for _, pool := range w.pools {
		if pool.Gate.Open(now) {
			pools = append(pools, pool)
		} else {
			closed = append(closed, pool)
		}
	}
	return append(pools, closed...)
}

// pop is the command that waits for a notification, or nil if no queue may be asked; and how long to wait.
func (w *Worker) pop(now time.Time) (packed []byte, timeout time.Duration) {
	timeout = w.queues[0].timeout
	args := []string{"BLPOP"}
	for _, pool := range w.pools {
		timeout = min(timeout, w.queueOf(pool).timeout)
		if pool.Gate.Open(now) {
			args = append(args, pool.Store.Keys.Noti)
		} else if wait := pool.Gate.OpensIn(now); wait > 0 {
			timeout = min(timeout, max(wait, shortestWait))
		}
	}
	if len(args) == 1 {
		return nil, timeout
	}
	return conn.AppendCommand(nil, append(args, strconv.FormatFloat(timeout.Seconds(), 'f', 3, 64))...), timeout
}

// fetchUnder takes under these leases, within the limits of the queue.
func (w *Worker) fetchUnder(pool *lease.Pool, names []string, options rdb.TakeOptions) (taken rdb.TakeResult, err error) {
	store := pool.Store.Over(w.fetchConn)
	if pool.Gate.Current() == nil {
		return store.Take(context.Background(), names, options)
	}
	pool.Gate.Ended = w.finished.Load()
	taken, pause, err := store.TakeLimited(context.Background(), names, options)
	pool.Gate.Refused(pause)
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
	for _, pool := range w.pools {
		if pool.Gate.Current().Counted() && pool.Gate.Ended != ended && !pool.Gate.OpensAt.IsZero() {
			pool.Gate.OpensAt, some = time.Time{}, true
		}
	}
	return some
}

// turnedAway is called when a queue had tasks and gave none; false if there is nothing left to do. With Burst a worker ends when the
// queues are empty or paused, not when a limit is reached.
func (w *Worker) turnedAway(pool *lease.Pool) bool {
	now := time.Now()
	wait := pool.Gate.OpensIn(now)
	switch {
	case !w.burst || pool.Gate.Open(now): // or another worker was quicker
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
