package delayed

import (
	"context"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/tally"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// slot is where one task at a time runs.
type slot struct {
	current *lease.Lease                // its goroutine's alone
	job     *Job                        // likewise: what runs, if it has headers
	running atomic.Pointer[runningTask] // what runs, if others may end it
	began   time.Time                   // likewise
	path    string                      // likewise: of its function
	handler atomic.Pointer[handler]     // what the register shows
	since   atomic.Int64                // nanoseconds from the worker's start
}

// serve runs what comes into the buffer, until it is closed.
func (w *Worker) serve(ctx context.Context, s *slot) {
	defer func() {
		if s.current != nil { // the task called runtime.Goexit, which ends this goroutine whatever we do
			w.conclude(s, s.current, failed(errors.New("the task ended its goroutine (runtime.Goexit)")))
			go w.serve(ctx, s)
		}
	}()
	for l := range w.buffer {
		now := time.Now()
		if w.broken.Load() || w.stopped() || l.Old.Load() || !w.lives(now) { // nothing begins any more, or others may have these tasks
			w.giveBack([]*lease.Lease{l})
			continue
		}
		s.current, s.began, l.Since = l, now, now
		l.Begun.Store(true)
		s.since.Store(int64(s.began.Sub(w.started)))
		w.conclude(s, l, w.execute(ctx, s, l.Data))
	}
}

// execute runs the task in data: nil, or why it was not run, or how it failed.
func (w *Worker) execute(ctx context.Context, s *slot, data []byte) (err error) {
	defer catchPanic(&err)
	task, err := decode(data)
	switch {
	case err != nil && reasonOf(err) == UnknownHeader:
		s.job = newJob(w.queueOf(s.current.Pool), task)
		return w.notReady(ctx, s.job, err.(*Unrunnable)) //nolint:forcetypeassert,errorlint // it has a reason
	case err != nil:
		s.job = buriedJob(w.queueOf(s.current.Pool), data)
		return err
	case task.headers.Some():
		s.job = newJob(w.queueOf(s.current.Pool), task)
		s.job.lease = s.current.Name
		return w.runJob(ctx, s, task, data)
	}
	h, missing := w.find(task)
	if missing != nil {
		return w.notReady(ctx, nil, missing)
	}
	w.unready.reset()
	s.current.Pool.NoteRun(data)
	s.handler.Store(h)
	s.path = h.name
	if err = h.call(ctx, task.payload, w.middlewares...); isRefusal(err) {
		return err
	}
	return failed(err)
}

// find is the function that a task names.
func (w *Worker) find(task call) (*handler, *Unrunnable) {
	h, found := w.handlers[string(task.path)]
	if !found {
		return nil, unrunnable(UnknownFunction, "nothing is registered as %q in this worker", task.path)
	}
	return h, nil
}

// conclude ends the lease of a task that ran, or could not run, and does the accounts.
func (w *Worker) conclude(s *slot, l *lease.Lease, err error) {
	job := s.job
	s.current, s.job = nil, nil
	s.handler.Store(nil)
	if job != nil && !s.claimEnd() {
		return // it has been ended from outside
	}
	size, pool, path := int64(len(l.Data)), l.Pool, ""
	if err == nil {
		path = s.path
	} else {
		path = pathIn(l.Data)
	}
	if !w.settle(l, job, err) {
		return
	}
	if job != nil && job.member.Home != "" {
		w.nodeEnded(pool, job.member)
	}
	w.record(pool, path, job, s.began, err)
	if err == nil {
		w.count(l, job, path, tally.Succeeded, time.Since(s.began))
		w.tasks.succeeded(pool.Store.Keys.Queue, path, job, s.began)
	}
	pool.Count.Add(1)
	pool.Size.Add(size)
	pool.Busy.Add(int64(time.Since(s.began)))
	if w.buffered.Load()-w.finished.Add(1) <= w.low.Load() {
		w.signalRoom()
	}
}

// settle ends the lease of a task, whatever happens meanwhile. False if it has given the task back.
func (w *Worker) settle(l *lease.Lease, job *Job, err error) (ended bool) {
	defer func() {
		if value := recover(); value != nil {
			w.lastResort(l, job, panicked(value, debug.Stack()))
			ended = true
		}
	}()
	unready, waits := err.(*unreadyError) //nolint:errorlint // what a task returns is a failure, whatever it wraps
	switch {
	case waits:
		w.putOff(l, job, unready.cause)
	case job != nil:
		return w.endJob(l, job, err)
	case err != nil:
		w.endBadly(l, err)
	default:
		w.succeed(l)
	}
	return true
}

// lastResort is for a task whose ending failed by a fault of this program. As a dead letter it harms nobody any more. If even that fails,
// its lease runs out without having been given back, so that a sweeper counts the loss.
func (w *Worker) lastResort(l *lease.Lease, job *Job, f *failure) {
	for _, attempt := range []func(){
		func() { w.failJob(l, job, Failed, f) },
		func() { w.endBadly(l, f) },
		func() { w.abandon(l, f) },
	} {
		if survives(attempt) {
			return
		}
	}
}

// survives reports whether f returned.
func survives(f func()) (returned bool) {
	defer func() { returned = recover() == nil }()
	f()
	return true
}

// abandon lets a lease run out with its task.
func (w *Worker) abandon(l *lease.Lease, f *failure) {
	l.Pool.Abandon(l)
	w.setAside.Add(1)
	w.log.Error("could not end a task: its lease runs out, and a sweeper will see to it", "lease", l.Name, "error", stacked(f.detail()))
}

func (w *Worker) succeed(l *lease.Lease) {
	if l.Suspect {
		w.acks.Post(conn.Ending{
			Packed:   conn.AppendCommand(nil, l.Pool.Store.Success(l.Name, rdb.Holds{})...),
			Answered: l.Ended,
		})
		return
	}
	w.acks.Post(conn.Ending{Field: l.Field, Hash: l.Pool.Hash, Ask: l.Old.Load(), Answered: l.Ended})
}

// endBadly buries a task.
func (w *Worker) endBadly(l *lease.Lease, err error) {
	detail, about := detailOf(err), w.aboutLease(l, nil, string(reasonOf(err)), err) // while the lease has it
	w.countBad(l, nil, err)
	w.acks.Post(conn.Ending{Packed: conn.AppendCommand(nil, burial(l, reasonOf(err), detail, w.place)...), Answered: l.Ended})
	w.logBad(l.Pool, about, err)
}

// burial is the command that buries the task of a lease, which may have a slot.
func burial(l *lease.Lease, reason Reason, detail, worker string) []string {
	return l.Pool.Store.Burial(l.Name, rdb.HoldsIn(l.Data), string(reason), detail, worker)
}

// isRefusal reports whether err says that a task has not run. What a task returns itself is a failure, whatever it wraps.
func isRefusal(err error) bool {
	_, refused := err.(*Unrunnable) //nolint:errorlint // see above
	return refused
}

// reasonOf is why a task becomes a dead letter.
func reasonOf(err error) Reason {
	switch err := err.(type) { //nolint:errorlint // what a task returns is a failure, whatever it wraps
	case *Unrunnable:
		return err.Reason
	case *failure:
		return err.reason
	}
	return Failed
}

// detailOf is what a dead letter says.
func detailOf(err error) string {
	switch err := err.(type) { //nolint:errorlint // as above
	case *Unrunnable:
		return cutMiddle(err.Detail, longestDetail)
	case *failure:
		return err.detail()
	}
	return err.Error()
}

// countBad counts a task that becomes a dead letter, while its lease has it.
func (w *Worker) countBad(l *lease.Lease, job *Job, err error) {
	ran := time.Duration(0)
	if isRefusal(err) {
		w.buried.Add(1)
	} else {
		w.failed.Add(1)
		ran = time.Since(l.Since)
	}
	w.count(l, job, pathIn(l.Data), outcomeOf(err), ran)
}

// logBad logs a task that has become one.
func (w *Worker) logBad(pool *lease.Pool, about []any, err error) {
	says := "a task failed"
	if isRefusal(err) {
		says = "buried a task"
	}
	w.log.Error(says, append(about, "task_detail", stacked(detailOf(err)), "stream", pool.Store.Keys.Dead)...)
}

// idIn is the id of the task in data, tracked or not; empty if it has none.
func idIn(data []byte) string {
	_, headers, _ := wire.Peek(data)
	return headers.AnyID()
}

func (w *Worker) wasSuperseded(l *lease.Lease) {
	w.superseded.Add(1)
	w.count(l, nil, pathIn(l.Data), tally.Superseded, 0)
	w.recorder(l.Pool).note(historyEvent{outcome: "superseded", path: pathIn(l.Data), id: idIn(l.Data), ran: -1}, nil, time.Time{})
	w.log.Error("superseded: the lease under which a task ran is gone, so that its end counts for nothing, and another worker may "+
		"have the task; was this process stopped or cut off from Redis for longer than the lease lives, or has Redis lost its data?",
		append(w.aboutLease(l, nil, "superseded", nil), "ttl", w.ttl)...)
}
