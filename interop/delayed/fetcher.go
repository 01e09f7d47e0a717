package delayed

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const (
	firstPause   = 50 * time.Millisecond // between two attempts to reach Redis again
	longestPause = time.Second
	dueAtOnce    = 100             // tasks that one call moves from the schedule at most
	mostAtOnce   = 1000            // leases in one call of take, whatever the concurrency
	late         = 2 * time.Second // that Redis may be late with the end of a blocking pop
)

// After so long a worker looks for a task that was announced before it was added.
var announcedBefore = []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond}

// fetchLoop is the loop that fills the buffer, until the worker is stopped.
func (w *Worker) fetchLoop() {
	select {
	case <-w.began: // what operators want is known before anything is taken
	case <-w.stopping:
	}
	failures := 0
	for !w.stopped() {
		w.rounds.Add(1)
		more, err := w.fetch()
		if err == nil {
			failures = 0
			if !more {
				return
			}
			continue
		}
		w.connectionBroke(err)
		w.fetchConn.CloseIfAny()
		w.fetchConn = nil
		pause := min(firstPause<<min(failures, 10), longestPause)
		failures++
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-w.stopping:
		}
	}
}

// fetch takes once; false if there is nothing left to do.
func (w *Worker) fetch() (more bool, err error) {
	defer catchFault(&err)
	if w.slowDownIfUnready(); w.stopped() {
		return true, nil
	}
	if w.fetchConn == nil || w.broken.Load() {
		if err := w.open(); err != nil {
			return true, err
		}
	}
	if w.roomFor(w.pools[0]) <= 0 {
		w.awaitRoom(int64(len(w.slots)) - 1 + int64(w.ahead(w.pools[0]))/2)
		return true, nil
	}
	if w.moreInFirst && w.pools[0].Gate.Open(time.Now()) {
		if found, err := w.fetchMore(); found || err != nil {
			return true, err
		}
	}
	w.moreInFirst = false
	if err := w.acks.Settle(); err != nil {
		return true, err
	}
	if w.inFlight() >= int64(len(w.slots)) { // all slots run; what is announced from now on can wait for the first that ends
		w.awaitRoom(int64(len(w.slots)) - 1)
		return true, nil
	}
	if err := w.feedGroups(); err != nil {
		return true, err
	}
	if !w.burst {
		if done, err := w.fetchNext(); done || err != nil {
			return true, err
		}
	}
	return w.recheck()
}

// fetchMore takes from the first queue, which had tasks a moment ago; false if there was nothing.
func (w *Worker) fetchMore() (bool, error) {
	ended := w.acks.Swap // their leases can be used again
	if w.pools[0].Gate.Current().Counted() {
		ended = w.acks.Settle // what has ended holds nothing any more
	}
	if err := ended(); err != nil {
		return false, err
	}
	return w.fetchFrom(w.pools[0], 0, false)
}

// fetchNext waits for a notification, and takes what it announces; false if there was none for so long that the queues have to be
// looked at.
func (w *Worker) fetchNext() (done bool, err error) {
	pop, timeout := w.pop(time.Now())
	if pop == nil { // all are paused, or have reached a limit
		w.linger(timeout)
		return true, nil
	}
	announced, err := w.wait(pop, timeout)
	if err != nil {
		return true, err
	}
	if announced != nil {
		return true, w.fetchAnnounced(announced)
	}
	return w.stopped() || w.broken.Load(), nil
}

// fetchAnnounced takes what a notification has announced. Producers that know no scripts may push that before the task.
func (w *Worker) fetchAnnounced(pool *lease.Pool) error {
	found, err := w.fetchFrom(pool, 1, false)
	for _, pause := range announcedBefore {
		if found || err != nil || pool.Gate.Current() != nil { // where there are limits, the claim has gone back
			return err
		}
		select {
		case <-time.After(pause):
			found, err = w.fetchFrom(pool, 1, false)
		case <-w.stopping:
			return nil
		}
	}
	return err
}

// recheck takes without an announcement, as a notification can get lost.
func (w *Worker) recheck() (more bool, err error) {
	pools := w.inTurn(time.Now())
	queues := make([]*rdb.Store, len(pools))
	for i, pool := range pools {
		queues[i] = pool.Store
	}
	found, err := queues[0].Over(w.fetchConn).Due(context.Background(), queues, dueAtOnce)
	if err != nil {
		return true, err
	}
	if found.First >= 0 {
		pool := pools[found.First]
		if pool.Gate.Open(time.Now()) {
			if taken, err := w.fetchFrom(pool, 0, true); taken || err != nil {
				return true, err
			}
		}
		if more := w.turnedAway(pool); more {
			return true, nil
		}
		return false, w.releaseIdle()
	}
	if n := w.inFlight(); n > 0 {
		if w.burst { // what runs may enqueue more
			w.awaitRoom(n - 1)
		}
		return true, nil
	}
	return !w.burst, w.releaseIdle()
}

// roomFor is how many tasks more the worker would like to have.
func (w *Worker) roomFor(pool *lease.Pool) int {
	return len(w.slots) + w.ahead(pool) - int(w.inFlight())
}

// awaitRoom waits until no more than low tasks are in the buffer or run.
func (w *Worker) awaitRoom(low int64) {
	w.low.Store(low)
	for w.inFlight() > low && !w.stopped() && !w.broken.Load() {
		select {
		case <-w.room:
		case <-w.stopping:
		}
	}
}

// wait waits for a notification, and says which queue it is from. Nil after the time that an idle worker waits, or if it was woken.
func (w *Worker) wait(pop []byte, timeout time.Duration) (*lease.Pool, error) {
	if !w.block(time.Now().Add(timeout + late)) {
		return nil, nil
	}
	reply, err := w.fetchConn.Block(pop)
	w.unblock()
	if errors.Is(err, os.ErrDeadlineExceeded) && (w.stopped() || w.broken.Load()) {
		w.woken = true
		w.broken.Store(true) // the reply may still come; the connection is of no use any more
		return nil, nil
	}
	values, ok := reply.([]any)
	if err != nil || !ok || len(values) != 2 {
		return nil, err
	}
	for _, pool := range w.pools {
		if pool.Store.Keys.Noti == string(rdb.Bulk(values[0])) {
			return pool, nil
		}
	}
	return nil, nil
}

func (w *Worker) block(until time.Time) bool {
	w.fetchMu.Lock()
	defer w.fetchMu.Unlock()
	if w.stopped() || w.broken.Load() {
		return false
	}
	w.blocking = true
	return w.fetchConn.SetDeadline(until) == nil
}

func (w *Worker) unblock() {
	w.fetchMu.Lock()
	defer w.fetchMu.Unlock()
	w.blocking = false
}

// wakeFetcher ends the blocking pop of the fetcher, and whatever else it waits for.
func (w *Worker) wakeFetcher() {
	w.fetchMu.Lock()
	if w.blocking {
		w.fetchConn.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // then it is closed already
	}
	w.fetchMu.Unlock()
	w.signalRoom()
}

func (w *Worker) signalRoom() {
	select {
	case w.room <- struct{}{}:
	default:
	}
}

// fetchFrom takes from one queue what there is room for; false if there was nothing.
func (w *Worker) fetchFrom(pool *lease.Pool, claims int, waiting bool) (bool, error) {
	pool.Adapt(len(w.slots))
	if w.stumbled.Swap(false) {
		pool.Prefetch.Reset()
	}
	if !w.lives(time.Now()) { // after a gap in the beats their keys may be gone: let them go, and make others
		for _, each := range w.pools {
			each.Forget(each.Renew())
		}
		w.beaten.Store(int64(time.Since(w.started)))
	}
	leases, living := pool.Get(min(max(w.roomFor(pool), 1), mostAtOnce))
	names := make([]string, len(leases))
	for i, l := range leases {
		names[i] = l.Name
	}
	taken, err := w.fetchUnder(pool, names, rdb.TakeOptions{Holder: w.name, TTL: w.ttl, Living: living, Claims: claims, Waiting: waiting})
	if err != nil {
		return false, err
	}
	count := len(taken.Tasks)
	pool.PutBack(leases[count:], max(living-count, 0))
	w.moreInFirst = count > 0 && pool == w.pools[0]
	for i, data := range taken.Tasks {
		leases[i].Data, leases[i].Suspect = data, taken.Suspect
	}
	if taken.Suspect {
		w.runAlone(leases[0])
		return true, nil
	}
	w.fillBuffer(leases[:count])
	return count > 0, nil
}

func (w *Worker) fillBuffer(leases []*lease.Lease) {
	w.buffered.Add(int64(len(leases)))
	for _, l := range leases {
		l.Busy.Store(true)
		w.buffer <- l
	}
	if w.inFlight() > int64(len(w.slots)) {
		select {
		case w.watching <- struct{}{}:
		default:
		}
	}
}

// runAlone runs a task that has been lost before: if it takes this process with it, no other task is hit.
func (w *Worker) runAlone(l *lease.Lease) {
	w.awaitRoom(0)
	if w.inFlight() > 0 { // stopped, or the connection broke: it goes back with the rest
		return
	}
	w.fillBuffer([]*lease.Lease{l})
	w.awaitRoom(0)
}

// releaseIdle lets the leases of an idle worker go.
func (w *Worker) releaseIdle() error {
	if err := w.acks.Settle(); err != nil {
		return err
	}
	for _, pool := range w.pools {
		if names := pool.ReleaseIdle(); len(names) > 0 {
			if _, err := w.fetchConn.Call(context.Background(), append([]string{"UNLINK"}, names...)...); err != nil {
				return err
			}
		}
	}
	return nil
}
