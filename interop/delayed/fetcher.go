package delayed

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
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

// fetcher fills the buffer with tasks that it takes under leases. Its fields are its own goroutine's, and after its end those of who says
// goodbye; conn is set, and blocking is used, with mu.
type fetcher struct {
	*Worker
	conn        *conn.Conn // its own; nil while there is none
	mu          sync.Mutex
	blocking    bool // it is inside a blocking pop, and may be woken
	woken       bool // the blocking pop was abandoned, and may have had a notification by then
	moreInFirst bool // the first queue had tasks a moment ago, and no other goes before it
}

// run is the loop that fills the buffer, until the worker is stopped.
func (f *fetcher) run() {
	select {
	case <-f.began: // what operators want is known before anything is taken
	case <-f.stopping:
	}
	failures := 0
	for !f.stopped() {
		f.rounds.Add(1)
		more, err := f.fetch()
		if err == nil {
			failures = 0
			if !more {
				return
			}
			continue
		}
		f.connectionBroke(err)
		f.conn.CloseIfAny()
		f.conn = nil
		pause := min(firstPause<<min(failures, 10), longestPause)
		failures++
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-f.stopping:
		}
	}
}

// fetch takes once; false if there is nothing left to do.
func (f *fetcher) fetch() (more bool, err error) {
	defer catchFault(&err)
	if f.slowDownIfUnready(); f.stopped() {
		return true, nil
	}
	if f.conn == nil || f.broken.Load() {
		if err := f.open(); err != nil {
			return true, err
		}
	}
	if f.roomFor(f.pools[0]) <= 0 {
		f.awaitRoom(int64(len(f.slots)) - 1 + int64(f.ahead(f.pools[0]))/2)
		return true, nil
	}
	if f.moreInFirst && f.pools[0].Gate.Open(time.Now()) {
		if found, err := f.fetchMore(); found || err != nil {
			return true, err
		}
	}
	f.moreInFirst = false
	if err := f.acks.Settle(); err != nil {
		return true, err
	}
	if f.inFlight() >= int64(len(f.slots)) { // all slots run; what is announced from now on can wait for the first that ends
		f.awaitRoom(int64(len(f.slots)) - 1)
		return true, nil
	}
	if err := f.feedGroups(); err != nil {
		return true, err
	}
	if !f.burst {
		if done, err := f.fetchNext(); done || err != nil {
			return true, err
		}
	}
	return f.recheck()
}

// fetchMore takes from the first queue, which had tasks a moment ago; false if there was nothing.
func (f *fetcher) fetchMore() (bool, error) {
	ended := f.acks.Swap // their leases can be used again
	if limits := f.pools[0].Gate.Current(); limits.Counted() && limits.Spare() < len(f.slots) {
		ended = f.acks.Settle // what has ended holds nothing any more: each place counts
	}
	if err := ended(); err != nil {
		return false, err
	}
	return f.fetchFrom(f.pools[0], 0, false)
}

// fetchNext waits for a notification, and takes what it announces; false if there was none for so long that the queues have to be
// looked at.
func (f *fetcher) fetchNext() (done bool, err error) {
	pop, timeout := f.pop(time.Now())
	if pop == nil { // all are paused, or have reached a limit
		f.linger(timeout)
		return true, nil
	}
	announced, err := f.wait(pop, timeout)
	if err != nil {
		return true, err
	}
	if announced != nil {
		return true, f.fetchAnnounced(announced)
	}
	return f.stopped() || f.broken.Load(), nil
}

// fetchAnnounced takes what a notification has announced. Producers that know no scripts may push that before the task.
func (f *fetcher) fetchAnnounced(pool *lease.Pool) error {
	found, err := f.fetchFrom(pool, 1, false)
	for _, pause := range announcedBefore {
		if found || err != nil || pool.Gate.Current() != nil { // where there are limits, the claim has gone back
			return err
		}
		select {
		case <-time.After(pause):
			found, err = f.fetchFrom(pool, 1, false)
		case <-f.stopping:
			return nil
		}
	}
	return err
}

// recheck takes without an announcement, as a notification can get lost.
func (f *fetcher) recheck() (more bool, err error) {
	pools := f.inTurn(time.Now())
	queues := make([]*rdb.Store, len(pools))
	for i, pool := range pools {
		queues[i] = pool.Store
	}
	running := f.inFlight() // before the look: what ends meanwhile may have enqueued more behind it
	found, err := queues[0].Over(f.conn).Due(context.Background(), queues, dueAtOnce)
	if err != nil {
		return true, err
	}
	if found.First >= 0 {
		pool := pools[found.First]
		if pool.Gate.Open(time.Now()) {
			if taken, err := f.fetchFrom(pool, 0, true); taken || err != nil {
				return true, err
			}
		}
		if more := f.turnedAway(pool); more {
			return true, nil
		}
		return false, f.releaseIdle()
	}
	if running > 0 {
		if f.burst {
			f.awaitRoom(running - 1)
		}
		return true, nil
	}
	return !f.burst, f.releaseIdle()
}

// fetchFrom takes from one queue what there is room for; false if there was nothing.
func (f *fetcher) fetchFrom(pool *lease.Pool, claims int, waiting bool) (bool, error) {
	pool.Adapt(len(f.slots))
	if f.stumbled.Swap(false) {
		pool.Prefetch.Reset()
	}
	if !f.lives(time.Now()) { // after a gap in the beats their keys may be gone: let them go, and make others
		for _, each := range f.pools {
			each.Forget(each.Renew())
		}
		f.beaten.Store(int64(time.Since(f.started)))
	}
	leases, living := pool.Get(min(max(f.roomFor(pool), 1), mostAtOnce))
	names := make([]string, len(leases))
	for i, l := range leases {
		names[i] = l.Name
	}
	taken, err := f.fetchUnder(pool, names, rdb.TakeOptions{Holder: f.name, TTL: f.ttl, Living: living, Claims: claims, Waiting: waiting})
	if err != nil {
		return false, err
	}
	count := len(taken.Tasks)
	pool.PutBack(leases[count:], max(living-count, 0))
	f.moreInFirst = count > 0 && pool == f.pools[0]
	for i, data := range taken.Tasks {
		leases[i].Data, leases[i].Suspect = data, taken.Suspect
	}
	if taken.Suspect {
		f.runAlone(leases[0])
		return true, nil
	}
	if err := f.begin(pool, leases[:count]); err != nil {
		return false, err
	}
	f.fillBuffer(leases[:count])
	return count > 0, nil
}

// begin asks in one question whether those tasks may begin that are tracked or have a concurrency key. Where there are limits each asks
// for itself, as what has not begun gives its token back; and so does a task before which others with its key are to run here, as it
// would take their slot.
func (f *fetcher) begin(pool *lease.Pool, leases []*lease.Lease) error {
	var asked []*lease.Lease
	var tasks []rdb.Start
	var before map[string]int64
	for _, l := range leases {
		_, headers, _ := wire.Peek(l.Data)
		l.Slots = ""
		if pool.Gate.Current() != nil || !headers.Has(wire.ID) && !headers.Has(wire.Concurrency) {
			continue
		}
		h := rdb.HoldsOf(&headers)
		if l.Slots = h.Slots; h.Limit > 0 {
			if before == nil {
				before = pool.Slots()
			}
			if before[h.Slots]++; before[h.Slots] > h.Limit {
				continue
			}
		}
		if (h.ID != "" || h.Limit > 0) && h.BeginsWithOthers() {
			asked, tasks = append(asked, l), append(tasks, rdb.Start{Lease: l.Name, Holds: h, Attempt: headers.Number(wire.Attempt) + 1})
		}
	}
	if len(asked) == 0 {
		return nil
	}
	answers, err := pool.Store.Over(f.conn).StartMany(context.Background(), tasks, f.place)
	for i, l := range asked {
		l.Asked, l.Answer = err == nil && answers[i] != rdb.StartAlone, answers[i]
	}
	return err
}

func (f *fetcher) fillBuffer(leases []*lease.Lease) {
	f.buffered.Add(int64(len(leases)))
	for _, l := range leases {
		l.Busy.Store(true)
		f.buffer <- l
	}
	if f.inFlight() > int64(len(f.slots)) {
		select {
		case f.watching <- struct{}{}:
		default:
		}
	}
}

// runAlone runs a task that has been lost before: if it takes this process with it, no other task is hit.
func (f *fetcher) runAlone(l *lease.Lease) {
	f.awaitRoom(0)
	if f.inFlight() > 0 { // stopped, or the connection broke: it goes back with the rest
		return
	}
	f.fillBuffer([]*lease.Lease{l})
	f.awaitRoom(0)
}

// releaseIdle lets the leases of an idle worker go.
func (f *fetcher) releaseIdle() error {
	if err := f.acks.Settle(); err != nil {
		return err
	}
	for _, pool := range f.pools {
		if names := pool.ReleaseIdle(); len(names) > 0 {
			if _, err := f.conn.Call(context.Background(), append([]string{"UNLINK"}, names...)...); err != nil {
				return err
			}
		}
	}
	return nil
}
