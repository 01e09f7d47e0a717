package delayed

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// slot is where one task at a time runs.
type slot struct {
	current *lease                  // its goroutine's alone
	job     *Job                    // likewise: what runs, if it has headers
	seen    atomic.Pointer[seen]    // what runs, if others may end it
	began   time.Time               // likewise
	running atomic.Pointer[handler] // what the register shows
	since   atomic.Int64            // nanoseconds from the worker's start
}

// serve runs what comes into the hand, until it is closed.
func (w *Worker) serve(ctx context.Context, s *slot) {
	defer func() {
		if s.current != nil { // the task called runtime.Goexit, which ends this goroutine whatever we do
			w.conclude(s, s.current, errors.New("the task ended its goroutine (runtime.Goexit)"))
			go w.serve(ctx, s)
		}
	}()
	for l := range w.hand {
		now := time.Now()
		if w.broken.Load() || w.stopped() || l.old.Load() || !w.lives(now) { // nothing begins any more, or others may have these tasks
			w.giveBack([]*lease{l})
			continue
		}
		s.current, s.began = l, now
		l.begun.Store(true)
		s.since.Store(int64(s.began.Sub(w.started)))
		w.conclude(s, l, w.execute(ctx, s, l.data))
	}
}

// execute runs the task in data: nil, or why it was not run, or how it failed.
func (w *Worker) execute(ctx context.Context, s *slot, data []byte) (err error) {
	defer catchPanic(&err)
	task, err := decode(data)
	if err != nil {
		s.job = buriedJob(s.current.book.queue, data)
		return err
	}
	if task.headers != nil {
		s.job = newJob(s.current.book.queue, task)
		return w.live(ctx, s, task)
	}
	h, found := w.handlers[string(task.path)]
	if !found {
		return unrunnable(UnknownFunction, "nothing is registered as %q in this worker", task.path)
	}
	s.running.Store(h)
	return h.call(ctx, task.payload)
}

// conclude ends the lease of a task that ran, or could not run, and does the accounts.
func (w *Worker) conclude(s *slot, l *lease, err error) {
	job := s.job
	s.current, s.job = nil, nil
	s.running.Store(nil)
	if job != nil && !s.mine() {
		return // it has been ended from outside
	}
	size := int64(len(l.data))
	switch {
	case job != nil:
		if !w.endJob(l, job, err) {
			return
		}
	case err != nil:
		w.endBadly(l, err)
	default:
		w.succeed(l)
	}
	b := l.book
	b.count.Add(1)
	b.size.Add(size)
	b.busy.Add(int64(time.Since(s.began)))
	if w.handed.Load()-w.finished.Add(1) <= w.low.Load() {
		w.signalRoom()
	}
}

func (w *Worker) succeed(l *lease) {
	if l.suspect {
		k := l.book.queue.Keys
		w.ends.post(ending{
			packed:   appendCommand(nil, scripts["succeed"].command(append(k.home(), k.Lost), []string{l.name})...),
			answered: l.ended,
		})
		return
	}
	w.ends.post(ending{field: l.field, hash: l.book.hash, ask: l.old.Load(), answered: l.ended})
}

// endBadly buries a task.
func (w *Worker) endBadly(l *lease, err error) {
	detail := w.countBad(l, err)
	w.ends.post(ending{packed: appendCommand(nil, l.burial(reasonOf(err), detail, w.place)...), answered: l.ended})
}

// burial is the command that buries the task of a lease, which may have a slot.
func (l *lease) burial(reason Reason, detail, worker string) []string {
	k := l.book.queue.Keys
	keys := append(k.home(), k.Lost, k.Dead)
	if h := holdsIn(l.data); h.Limit > 0 {
		keys = append(keys, k.own(h)...)
	}
	return scripts["bury"].command(keys, []string{l.name, string(reason), detail, worker})
}

// reasonOf is why a task becomes a dead letter.
func reasonOf(err error) Reason {
	var refusal *Unrunnable
	var late *overran
	switch {
	case errors.As(err, &refusal):
		return refusal.Reason
	case errors.As(err, &late):
		return Overran
	}
	return Failed
}

// countBad counts and logs a task that becomes a dead letter, and returns what that says.
func (w *Worker) countBad(l *lease, err error) string {
	var refusal *Unrunnable
	path, stream := pathIn(l.data), l.book.queue.Keys.Dead
	if errors.As(err, &refusal) {
		w.buried.Add(1)
		w.log.Error("buried a task", "path", path, "reason", refusal.Reason, "detail", refusal.Detail, "stream", stream)
		return refusal.Detail
	}
	detail := describe(err)
	w.failed.Add(1)
	w.log.Error("a task failed", "path", path, "error", detail, "stream", stream)
	return detail
}

func (w *Worker) wasSuperseded(l *lease) {
	w.superseded.Add(1)
	w.log.Error("superseded: the lease under which a task ran was lost, so another worker has the task too; was this process "+
		"stopped or cut off from Redis for longer than the lease lives?", "path", pathIn(l.data), "ttl", w.ttl)
}
