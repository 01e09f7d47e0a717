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

// ahead is how many tasks to hold beyond those that run. Where only so many may run at once these take the places of others that could
// run, so there are few of them, or none; and none if they may be such as other workers can run, and this one cannot.
func (w *Worker) ahead(pool *lease.Pool) int {
	if w.unready.inRow.Load() > 0 {
		return 0
	}
	if limits := pool.Gate.Current(); limits.Counted() {
		return min(pool.Prefetch.Ahead, limits.Spare())
	}
	return pool.Prefetch.Ahead
}

// inTurn are the queues in the order in which to look: those that may not be asked come last.
func (f *fetcher) inTurn(now time.Time) []*lease.Pool {
	pools, closed := make([]*lease.Pool, 0, len(f.pools)), []*lease.Pool(nil)
	for _, pool := range f.pools {
		if pool.Gate.Open(now) {
			pools = append(pools, pool)
		} else {
			closed = append(closed, pool)
		}
	}
	return append(pools, closed...)
}

// pop is the command that waits for a notification, or nil if no queue may be asked; and how long to wait.
func (f *fetcher) pop(now time.Time) (packed []byte, timeout time.Duration) {
	timeout = f.queues[0].timeout
	args := []string{"BLPOP"}
	for _, pool := range f.pools {
		timeout = min(timeout, f.queueOf(pool).timeout)
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
func (f *fetcher) fetchUnder(pool *lease.Pool, names []string, options rdb.TakeOptions) (taken rdb.TakeResult, err error) {
	store := pool.Store.Over(f.conn)
	if pool.Gate.Current() == nil {
		return store.Take(context.Background(), names, options)
	}
	pool.Gate.Ended = f.finished.Load()
	taken, pause, err := store.TakeLimited(context.Background(), names, options)
	pool.Gate.Refused(pause)
	return taken, err
}

// linger waits until a queue may be asked again, or one of our own tasks ends, whose place may be the one that was missing.
func (f *fetcher) linger(d time.Duration) {
	f.low.Store(f.inFlight() - 1)
	if f.reopen() {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.room:
	case <-f.stopping:
	}
}

// reopen lets queues be asked again where one of our own tasks has ended since we were refused for want of a place.
func (f *fetcher) reopen() (some bool) {
	ended := f.finished.Load()
	for _, pool := range f.pools {
		if pool.Gate.Current().Counted() && pool.Gate.Ended != ended && !pool.Gate.OpensAt.IsZero() {
			pool.Gate.OpensAt, some = time.Time{}, true
		}
	}
	return some
}

// turnedAway is called when a queue had tasks and gave none; false if there is nothing left to do. With Burst a worker ends when the
// queues are empty or paused, not when a limit is reached.
func (f *fetcher) turnedAway(pool *lease.Pool) bool {
	now := time.Now()
	wait := pool.Gate.OpensIn(now)
	switch {
	case !f.burst || pool.Gate.Open(now): // or another worker was quicker
		return true
	case wait > 0:
		f.linger(wait)
		return true
	}
	if n := f.inFlight(); n > 0 {
		f.awaitRoom(n - 1)
		return true
	}
	return false
}
