package delayed

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	beatAgain   = 500 * time.Millisecond // to the next attempt after a beat that failed
	notableSkew = time.Second            // between two clocks
)

// heartbeat keeps a worker's leases alive, and gives back what waits behind slow tasks. All fields are its own goroutine's.
type heartbeat struct {
	*Worker
	conn     *conn.Conn       // its own; nil while there is none
	next     *time.Timer      // the next beat
	check    <-chan time.Time // the next look at tasks that may wait behind slow ones; nil while there are none
	ended    int64            // tasks that had ended at the last such look
	ready    bool             // the service manager has been told that we work
	progress int64            // what had been done when the service manager was told last that we live
	skewed   bool             // it has been said that the clocks differ
	doomed   []*runningTask   // what should end by itself since the last beat
	keptAt   time.Time        // when the states of what runs were kept for longer
	servedAt time.Time        // when the queues were registered as served
}

// run beats until ctx is done.
func (h *heartbeat) run(ctx context.Context) {
	defer func() { h.conn.CloseIfAny() }()
	h.next = time.NewTimer(0)
	defer h.next.Stop()
	feeding, stop := h.manager.Feeding()
	defer stop()
	h.manager.Alive()
	began := sync.OnceFunc(func() { close(h.began) })
	defer began()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.next.C:
			h.next.Reset(h.beatAndPause(ctx))
			began()
		case <-feeding:
			h.feed()
		case <-h.watching:
			if h.check == nil {
				h.check, h.ended = time.After(lease.PrefetchBudget), h.finished.Load()
			}
		case <-h.check:
			h.freeStuck()
		}
	}
}

// beatAndPause beats, and says when to beat again.
func (h *heartbeat) beatAndPause(ctx context.Context) time.Duration {
	pause := h.beat
	if err := h.beatOnce(ctx); err != nil {
		h.log.Warn("the heartbeat failed", "error", err)
		pause = min(beatAgain, h.beat)
	} else if !h.ready {
		h.ready = true
		h.manager.Ready("working")
	}
	if len(h.doomed) > 0 {
		pause = min(pause, lastMoments)
	}
	return pause
}

// feed tells the service manager that we live: while tasks run or the fetcher's loop goes round, all is well.
func (h *heartbeat) feed() {
	if progress := h.rounds.Load() + h.finished.Load(); progress != h.progress || h.runs() {
		h.progress = progress
		h.manager.Alive()
	}
}

// freeStuck gives back the tasks in the buffer if none has ended since the last look.
func (h *heartbeat) freeStuck() {
	h.check = nil
	ended := h.finished.Load()
	if ended == h.ended && h.giveBackUnbegun() > 0 {
		h.stumbled.Store(true)
	} else if len(h.buffer) > 0 {
		h.check, h.ended = time.After(lease.PrefetchBudget), ended
	}
}

func (w *Worker) runs() bool {
	return slices.ContainsFunc(w.slots, func(s *slot) bool { return s.handler.Load() != nil })
}

// beatOnce lets everything live for another TTL, and learns what others want.
func (h *heartbeat) beatOnce(ctx context.Context) (failure error) {
	defer catchFault(&failure)
	h.tasks.flush()
	if h.conn == nil {
		opened, err := conn.Dial(ctx, h.queues[0].store.Client, h.queues[0].Name())
		if err != nil {
			return err
		}
		h.conn = opened
	}
	began := time.Since(h.started)
	var err error
	for _, pool := range h.pools {
		if err == nil {
			err = h.beatFor(ctx, pool)
		}
	}
	if err == nil {
		err = h.applyCancels()
	}
	if err == nil {
		err = h.askTime()
	}
	if err == nil {
		err = h.sendCounts(ctx, h.conn)
	}
	if err == nil {
		err = h.serve(ctx)
	}
	if err != nil {
		h.conn.Close()
		h.conn = nil
		return err
	}
	if last := h.beaten.Load(); int64(began)-last < int64(h.ttl/2) {
		h.beaten.CompareAndSwap(last, max(last, int64(began)))
	} // else there was a gap in which leases may have run out, also some that hold nothing: the fetcher takes others
	return nil
}

// serve registers the queues as served, now and then: commands for operators notice a misspelled name by that.
func (h *heartbeat) serve(ctx context.Context) error {
	if time.Since(h.servedAt) < rdb.ServeAgain {
		return nil
	}
	h.servedAt = time.Now()
	for _, pool := range h.pools {
		if err := pool.Store.Over(h.conn).Serve(ctx); err != nil && !conn.Answered(err) { // rules (ACL) may forbid it
			return err
		}
	}
	return nil
}

// askTime learns what the server's clock shows. What expires does so by that.
func (h *heartbeat) askTime() error {
	asked := time.Now()
	replies, err := h.conn.Exchange(conn.AppendCommand(nil, "TIME"), 1)
	if err != nil {
		if conn.Answered(err) { // there are rules (ACL) that forbid it
			return nil
		}
		return err
	}
	said, err := rdb.TimeIn(replies[0])
	if err != nil {
		return nil //nolint:nilerr // no server says so, and the clock of this machine will do
	}
	if ahead := h.clock.Learn(said, asked, time.Now()); ahead.Abs() > notableSkew && !h.skewed {
		h.skewed = true
		h.log.Warn("the clocks of Redis and of this machine differ; tasks expire by that of Redis", "ahead", ahead.Round(time.Millisecond))
	}
	return nil
}

// beatFor lets all leases on one queue live for another TTL, brings the register up to date, and reads what operators want.
func (h *heartbeat) beatFor(ctx context.Context, pool *lease.Pool) error {
	if err := h.prolong(pool); err != nil {
		return err
	}
	about, err := h.about()
	if err != nil {
		return err
	}
	grouped, deferred, control, err := pool.Store.Over(h.conn).Beat(ctx, h.name, h.ttl, about)
	if err != nil {
		if conn.Answered(err) { // a foreign type: leases matter, the rest does not
			h.log.Warn("the heartbeat cannot hear what operators want", "queue", pool.Store.Keys.Queue, "error", err)
			return nil
		}
		return err
	}
	if n, err := h.queueOf(pool).over(h.conn).restoreSchedules(ctx); n > 0 {
		h.log.Warn("Redis has lost its data: schedules are registered again", "queue", pool.Store.Keys.Queue, "schedules", n)
	} else if err != nil && !conn.Answered(err) {
		return err
	}
	if grouped {
		pool.Gate.Grouped.Store(true)
	}
	if ran := pool.TakeRun(deferred); len(ran) > 0 {
		if _, err := h.conn.Call(ctx, append([]string{"HDEL", pool.Store.Keys.Deferred}, ran...)...); err != nil && !conn.Answered(err) {
			return err
		}
	}
	kept := keptOf(control)
	h.recorders[pool.Index].keeps.Store(&kept)
	if pool.Gate.Apply(lease.LimitsOf(control)) {
		h.signalRoom() // if the fetcher waits for a queue to open, it looks again
	}
	return nil
}

// prolong lets all leases on one queue live for another TTL.
func (h *heartbeat) prolong(pool *lease.Pool) error {
	names, ttl := pool.Names(), rdb.Milliseconds(h.ttl)
	if len(names) == 0 {
		return nil
	}
	var packed []byte
	for _, name := range names {
		packed = conn.AppendCommand(packed, "PEXPIRE", name, ttl)
	}
	replies, err := h.conn.Exchange(packed, len(names))
	if err != nil {
		return err
	}
	// A key that is gone is made again where the lease still holds a task: nobody may have swept it yet, and if somebody has, the
	// fence tells us. (PEXPIRE first, because Redis refuses SET when its memory is full.)
	packed = packed[:0]
	count := 0
	for i, name := range names {
		if replies[i] != int64(1) && pool.Lapsed(name) {
			packed = conn.AppendCommand(packed, "SET", name, h.name, "PX", ttl)
			count++
		}
	}
	if count > 0 {
		_, err = h.conn.Exchange(packed, count)
	}
	return err
}

// about is what stands in the register of workers.
func (h *heartbeat) about() ([]byte, error) {
	var running any
	var runningFor any
	now, longest, inFlight := int64(time.Since(h.started)), int64(-1), 0

	for _, s := range h.slots {
		if handler := s.handler.Load(); handler != nil {
			inFlight++
			if spent := now - s.since.Load(); spent > longest {
				longest, running, runningFor = spent, handler.name, float64(spent)/1e9
			}
		}
	}
	return wire.Encode(map[string]any{
		"kind":        "worker",
		"language":    "go",
		"place":       h.place,
		"queues":      h.queueNames(),
		"started":     float64(h.started.UnixMicro()) / 1e6,
		"running":     running,
		"running_for": runningFor,
		"in_flight":   inFlight,
		"slots":       len(h.slots),
		"in_hand":     len(h.buffer),
		"rss":         rss(),
		"ttl":         h.ttl.Seconds(),
		"succeeded":   max(h.succeeded(), 0),
		"retried":     h.retried.Load(),
		"failed":      h.failed.Load(),
		"buried":      h.buried.Load(),
		"superseded":  h.superseded.Load(),
	}, false)
}

// rss is the memory that the process has, where the system tells.
func rss() any {
	data, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(data)
	if err != nil || len(fields) < 2 {
		return nil
	}
	pages, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return nil
	}
	return pages * os.Getpagesize()
}
