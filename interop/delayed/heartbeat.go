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

// heartbeat keeps the leases alive, and returns what waits behind slow tasks. It has a connection of its own.
func (w *Worker) heartbeat(ctx context.Context) {
	var c *conn.Conn
	defer func() { c.CloseIfAny() }()
	next := time.NewTimer(0)
	defer next.Stop()
	var look <-chan time.Time // while there may be tasks in hand behind a slow one
	seen := int64(-1)
	ready := false
	feeding, stop := w.manager.Feeding()
	defer stop()
	w.manager.Alive()
	progress := int64(0)
	began := sync.OnceFunc(func() { close(w.began) })
	defer began()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			pause := w.beat
			if err := w.beatOnce(ctx, &c); err != nil {
				w.log.Warn("the heartbeat failed", "error", err)
				pause = min(beatAgain, w.beat)
			} else if !ready {
				ready = true
				w.manager.Ready("working")
			}
			began()
			if len(w.doomed) > 0 {
				pause = min(pause, lastMoments)
			}
			next.Reset(pause)
		case <-feeding: // while tasks run or the taker's loop goes round, all is well
			if sum := w.rounds.Load() + w.finished.Load(); sum != progress || w.runs() {
				progress = sum
				w.manager.Alive()
			}
		case <-w.watching:
			if look == nil {
				look, seen = time.After(lease.PrefetchBudget), w.finished.Load()
			}
		case <-look:
			look = nil
			finished := w.finished.Load()
			if finished == seen && w.giveBackUnbegun() > 0 {
				w.stumbled.Store(true)
			} else if len(w.buffer) > 0 {
				look, seen = time.After(lease.PrefetchBudget), finished
			}
		}
	}
}

func (w *Worker) runs() bool {
	return slices.ContainsFunc(w.slots, func(s *slot) bool { return s.handler.Load() != nil })
}

func (w *Worker) beatOnce(ctx context.Context, c **conn.Conn) (failure error) {
	defer catchFault(&failure)
	if *c == nil {
		opened, err := conn.Dial(ctx, w.queues[0].store.Client, w.queues[0].Name())
		if err != nil {
			return err
		}
		*c = opened
	}
	began := time.Since(w.started)
	var err error
	for _, b := range w.pools {
		if err == nil {
			err = w.beatFor(ctx, *c, b)
		}
	}
	if err == nil {
		err = w.applyCancels(*c)
	}
	if err == nil {
		err = w.askTime(*c)
	}
	if err != nil {
		(*c).Close()
		*c = nil
		return err
	}
	if last := w.beaten.Load(); int64(began)-last < int64(w.ttl/2) {
		w.beaten.CompareAndSwap(last, max(last, int64(began)))
	} // else there was a gap in which leases may have run out, also some that hold nothing: the taker takes others
	return nil
}

// askTime learns what the server's clock shows. What expires does so by that.
func (w *Worker) askTime(c *conn.Conn) error {
	asked := time.Now()
	replies, err := c.Exchange(conn.AppendCommand(nil, "TIME"), 1)
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
	if ahead := w.clock.Learn(said, asked, time.Now()); ahead.Abs() > notableSkew && !w.skewed {
		w.skewed = true
		w.log.Warn("the clocks of Redis and of this machine differ; tasks expire by that of Redis", "ahead", ahead.Round(time.Millisecond))
	}
	return nil
}

// beatFor lets all leases on one queue live for another TTL, brings the register up to date, and hears what operators want.
func (w *Worker) beatFor(ctx context.Context, c *conn.Conn, b *lease.Pool) error {
	if err := w.prolong(c, b); err != nil {
		return err
	}
	about, err := w.about()
	if err != nil {
		return err
	}
	grouped, deferred, control, err := b.Store.Over(c).Beat(ctx, w.name, w.ttl, about)
	if err != nil {
		if conn.Answered(err) { // a foreign type: leases matter, the rest does not
			w.log.Warn("the heartbeat cannot hear what operators want", "queue", b.Store.Keys.Queue, "error", err)
			return nil
		}
		return err
	}
	if n, err := w.queueOf(b).over(c).restoreSchedules(ctx); n > 0 {
		w.log.Warn("Redis has lost its data: schedules are registered again", "queue", b.Store.Keys.Queue, "schedules", n)
	} else if err != nil && !conn.Answered(err) {
		return err
	}
	if grouped {
		b.Gate.Grouped.Store(true)
	}
	if ran := b.TakeRun(deferred); len(ran) > 0 {
		if _, err := c.Call(ctx, append([]string{"HDEL", b.Store.Keys.Deferred}, ran...)...); err != nil && !conn.Answered(err) {
			return err
		}
	}
	if b.Gate.Apply(lease.LimitsOf(control)) {
		w.signalRoom() // if the taker waits for a queue to open, it looks again
	}
	return nil
}

// prolong lets all leases on one queue live for another TTL.
func (w *Worker) prolong(c *conn.Conn, b *lease.Pool) error {
	names, ttl := b.Names(), rdb.Milliseconds(w.ttl)
	if len(names) == 0 {
		return nil
	}
	var packed []byte
	for _, name := range names {
		packed = conn.AppendCommand(packed, "PEXPIRE", name, ttl)
	}
	replies, err := c.Exchange(packed, len(names))
	if err != nil {
		return err
	}
	// A key that is gone is made again where the lease still holds a task: nobody may have swept it yet, and if somebody has, the
	// fence tells us. (PEXPIRE first, because Redis refuses SET when its memory is full.)
	packed = packed[:0]
	count := 0
	for i, name := range names {
		if replies[i] != int64(1) && b.Lapsed(name) {
			packed = conn.AppendCommand(packed, "SET", name, w.name, "PX", ttl)
			count++
		}
	}
	if count > 0 {
		_, err = c.Exchange(packed, count)
	}
	return err
}

// about is what stands in the register of workers.
func (w *Worker) about() ([]byte, error) {
	var running any
	var runningFor any
	now, longest := int64(time.Since(w.started)), int64(-1)

	for _, s := range w.slots {
		if h := s.handler.Load(); h != nil {
			if spent := now - s.since.Load(); spent > longest {
				longest, running, runningFor = spent, h.name, float64(spent)/1e9
			}
		}
	}
	return wire.Encode(map[string]any{
		"kind":        "worker",
		"language":    "go",
		"place":       w.place,
		"queues":      w.queueNames(),
		"started":     float64(w.started.UnixMicro()) / 1e6,
		"running":     running,
		"running_for": runningFor,
		"in_hand":     len(w.buffer),
		"rss":         rss(),
		"ttl":         w.ttl.Seconds(),
		"succeeded":   max(w.succeeded(), 0),
		"retried":     w.retried.Load(),
		"failed":      w.failed.Load(),
		"buried":      w.buried.Load(),
		"superseded":  w.superseded.Load(),
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
