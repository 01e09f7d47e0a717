package delayed

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// A goroutine cannot be ended from outside. A task that has to be is ended in Redis, all others are given back, and the process leaves.

const (
	cancelledHard = "hard"      // what Q_task_<id> has under cancelled if the task shall not just be told
	lastMoments   = time.Second // that such a task has to end by itself
	keeping       = time.Hour   // between two times that the states of what runs are kept for longer
)

// hardTimeout is the failure of a task that has run for longer than its hard timeout.
type hardTimeout struct{ limit time.Duration }

func (o *hardTimeout) Error() string {
	return fmt.Sprintf("it ran for longer than its hard timeout of %g s; its process was ended", o.limit.Seconds())
}

// Unwrap makes it a TimedOut, too: RetryOn and GiveUpOn may name that.
func (o *hardTimeout) Unwrap() error { return &TimedOut{o.limit} }

// runningTask is a task in execution, as others see it who may end it.
type runningTask struct {
	lease *lease.Lease
	job   *Job
	began time.Time
	limit time.Duration // its hard timeout, or 0
	ended atomic.Bool   // somebody ends it, and nobody else does
}

// trackRunning lets others see what begins to run in s, if it can be ended from outside. The result is to be called when it has returned.
func (w *Worker) trackRunning(s *slot) (end func()) {
	limit := s.job.duration(wire.HardTimeout)
	if limit == 0 && !s.job.Tracked {
		return func() {}
	}
	this := &runningTask{lease: s.current, job: s.job, began: time.Now(), limit: limit}
	s.running.Store(this)
	if limit == 0 {
		return func() {}
	}
	timer := time.AfterFunc(limit, func() {
		if w.endNow(this, &hardTimeout{limit}) {
			w.leaveNow("a task ran for longer than its hard timeout", this)
		}
	})
	return func() { timer.Stop() }
}

// claimEnd reports whether what has run in s is for its slot to end.
func (s *slot) claimEnd() bool {
	if s.running.Load() == nil { // nobody else stores anything
		return true
	}
	return !s.running.Swap(nil).ended.Swap(true)
}

// endNow ends a task that still runs; false if it has ended.
func (w *Worker) endNow(this *runningTask, why error) bool {
	if this.ended.Swap(true) {
		return false
	}
	if why != errCancelled { //nolint:errorlint // it is ours
		why = failed(why)
	}
	w.settle(this.lease, this.job, why)
	w.forced.Store(true)
	w.finished.Add(1)
	return true
}

// leaveNow lets Run give back everything else, and end the process.
func (w *Worker) leaveNow(why string, this *runningTask) {
	w.log.Warn("leaving now", "why", why, "queue", this.job.queue.Name(), "function", this.job.Path, "task_id", this.job.ID)
	w.stopNow()
}

// endOverdue ends what else is late at this moment: the process is about to leave.
func (w *Worker) endOverdue() {
	for _, s := range w.slots {
		if this := s.running.Load(); this != nil && this.limit > 0 && time.Since(this.began) >= this.limit {
			w.endNow(this, &hardTimeout{this.limit})
		}
	}
}

// applyCancels asks, at each beat, whether a tracked task that runs was cancelled for good. It is told, as others are; if it runs on until
// the next beat nevertheless, the process ends with it.
func (h *heartbeat) applyCancels() error {
	var asked []*runningTask
	var packed []byte
	for _, s := range h.slots {
		if this := s.running.Load(); this != nil && this.job.Tracked {
			asked = append(asked, this)
			packed = conn.AppendCommand(packed, "HGET", this.lease.Pool.Store.Keys.Task(this.job.ID), "cancelled")
		}
	}
	if err := h.keepStates(asked); err != nil {
		return err
	}
	var replies []any
	if len(asked) > 0 {
		var err error
		if replies, err = h.conn.Exchange(packed, len(asked)); err != nil && !conn.Answered(err) {
			return err
		}
	}
	var doomed []*runningTask
	again := false
	for i, this := range asked {
		if string(rdb.Bulk(replies[i])) == cancelledHard {
			doomed = append(doomed, this)
			again = again || slices.Contains(h.doomed, this)
		}
	}
	h.doomed = doomed
	if again {
		go h.cancelHard(doomed) // Redis may be slow, and the heart must beat
	}
	return nil
}

// keepStates lets a task that runs for longer than its state is kept have one nevertheless.
func (h *heartbeat) keepStates(running []*runningTask) error {
	if len(running) == 0 || time.Since(h.keptAt) < keeping {
		return nil
	}
	h.keptAt = time.Now()
	var packed []byte
	for _, this := range running {
		packed = conn.AppendCommand(packed, "PEXPIRE", this.lease.Pool.Store.Keys.Task(this.job.ID), rdb.Milliseconds(rdb.TrackedFor))
	}
	_, err := h.conn.Exchange(packed, len(running))
	return err
}

func (w *Worker) cancelHard(doomed []*runningTask) {
	var ended []*runningTask
	for _, this := range doomed {
		if w.endNow(this, errCancelled) {
			ended = append(ended, this)
		}
	}
	for _, this := range ended {
		w.leaveNow("a task that was cancelled for good ran on", this)
	}
}
