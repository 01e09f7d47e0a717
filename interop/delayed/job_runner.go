package delayed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/tally"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	longestError = 200 // bytes of an attempt's error that a task carries
	resultHead   = 11  // bytes of a result before its value: an array that begins with "succeeded"
	// Bytes of a result. Redis takes 512 MB at most (proto-max-bulk-len), and what it refuses could never be ended.
	maxResultSize = 64 << 20
)

// Why a task with headers did not run to its end, although nothing is wrong with it.
var (
	errSuperseded = errors.New("its lease was lost before it began")
	errBusy       = errors.New("another task with its unique key is running")
	errFull       = errors.New("as many tasks with its concurrency key are running as may")
	errCancelled  = errors.New("it has been cancelled")
	errNotBegun   = errors.New("the worker leaves, and could not say that the task begins")
	errAside      = errors.New("the lease holds nothing any more: it waits for its key, or the lease was lost")
)

// runJob runs a task that has headers. How it ends is for endJob.
func (w *Worker) runJob(ctx context.Context, s *slot, task call, data []byte) error {
	job := s.job
	if job.grouped {
		s.current.Pool.Gate.Grouped.Store(true)
	}
	h, missing := w.find(task)
	if missing != nil && w.unreadyFor > 0 && job.expired(&w.clock) == nil { // it has not begun, and need not here
		return w.notReady(ctx, job, missing)
	}
	if err := w.begin(ctx, s.current, job); err != nil {
		return err
	}
	defer w.trackRunning(s)()
	if err := job.expired(&w.clock); err != nil {
		return err
	}
	if missing != nil {
		return missing
	}
	w.unready.reset()
	s.current.Pool.NoteRun(data)
	s.handler.Store(h)
	s.path = h.name
	if h.takesCtx || len(w.middlewares) > 0 {
		own := newContext(ctx, job)
		defer own.end()
		ctx = own
	}
	args, err := h.bind(task.payload)
	if err != nil {
		return err
	}
	value, err := w.call(ctx, h, args, job.wanted())
	if err = job.judge(ctx, err); err == errCancelled { //nolint:errorlint // it is ours
		return err
	}
	if err == nil {
		err = job.pack(value, w.resultSize)
	}
	return failed(err)
}

// call calls the function within the middlewares. Its value is nil if nobody keeps it.
func (w *Worker) call(ctx context.Context, h *handler, args []reflect.Value, kept bool) (value any, err error) {
	if len(w.middlewares) == 0 {
		return h.callForValue(ctx, args, kept)
	}
	err = runAround(ctx, w.middlewares, func(ctx context.Context) (err error) {
		value, err = h.callForValue(ctx, args, kept)
		return err
	})
	return value, err
}

var refusals = map[rdb.StartResult]error{
	rdb.StartSuperseded: errSuperseded, rdb.StartCancelled: errCancelled, rdb.StartBusy: errBusy, rdb.StartFull: errFull,
}

// begin says that a task begins which is tracked or has a concurrency key.
func (w *Worker) begin(ctx context.Context, l *lease.Lease, job *Job) error {
	if !job.mayHold() {
		return nil
	}
	store, h := l.Pool.Store, job.holds()
	if h.ID == "" && h.Limit == 0 {
		return nil
	}
	if l.Asked {
		return refusals[l.Answer]
	}
	b := rdb.Beginning{Holds: h, Bound: job.bound(), Worker: w.place, Attempt: int64(job.Attempt), Group: job.group()}
	if h.Limit > 0 || h.Mode == wire.WhileRunning {
		// It asks over another connection than that by which tasks end: what has ended here holds its key no more. If that cannot be
		// said now, it may have to wait, and is woken.
		_ = w.acks.Settle()
	}
	start := func() (rdb.StartResult, error) { return store.Start(ctx, l.Name, b) }
	var own []rdb.TypedKey
	kinds := []string{"hash", "string", "zset", "hash", "zset"}
	for i, key := range store.Keys.Held(h) {
		if key != store.Keys.Processing { // which stands for what it has not
			own = append(own, rdb.TypedKey{Key: key, Kind: kinds[i]})
		}
	}
	return w.askToBegin(ctx, job, start, own...)
}

// askToBegin asks whether a task may begin. While Redis is away it tries again: to begin twice under one lease does no harm. If Redis
// refuses because another program uses one of the task's own keys, the task cannot begin.
func (w *Worker) askToBegin(ctx context.Context, job *Job, ask func() (rdb.StartResult, error), own ...rdb.TypedKey) error {
	for failures := 0; ; failures++ {
		answer, err := ask()
		if err == nil && answer == rdb.StartSuperseded && failures > 0 { // the first time it may have been told to wait
			return errAside
		}
		if err == nil {
			return refusals[answer]
		}
		if rdb.IsTypeError(err) {
			if foreign := job.queue.store.ForeignKeys(ctx, own...); foreign != "" {
				return unrunnable(ForeignKey, "%s: another program uses that key: rename it (RENAME) or remove it, or give the queue another "+
					"name; then the task can be retried", foreign)
			}
		}
		w.log.Warn("could not say that a task begins; trying again", "queue", job.queue.Name(), "function", job.Path,
			"task_id", job.ID, "error", err)
		select {
		case <-time.After(min(firstPause<<min(failures, 10), longestPause)):
		case <-w.stopping:
			return errNotBegun
		}
	}
}

// endJob ends the lease of a task that has headers. False if it has given the task back.
func (w *Worker) endJob(l *lease.Lease, job *Job, err error) bool {
	switch err {
	case errNotBegun:
		w.giveBack([]*lease.Lease{l})
		return false
	case errSuperseded:
		w.setAside.Add(1)
		l.Judge(int64(0), false)
		return true
	case errBusy, errFull, errAside:
		w.setAside.Add(1)
		w.log.Debug("a task waits", append(job.about("waits"), "why", err)...)
		l.Release()
		return true
	case errCancelled:
		w.setAside.Add(1)
		began := l.Since
		w.count(l, job, job.Path, tally.Cancelled, 0)
		w.end(l, w.cancellation(l, job))
		w.tasks.cancelled(job, began)
		return true
	}
	switch err := err.(type) { //nolint:errorlint // what a task returns is a failure, whatever it wraps
	case nil:
		w.succeedJob(l, job)
	case *Unrunnable:
		w.failJob(l, job, err.Reason, err)
	case *failure:
		w.retryJob(l, job, err)
	default:
		w.retryJob(l, job, failed(err).(*failure)) //nolint:forcetypeassert // it is one
	}
	return true
}

func (w *Worker) succeedJob(l *lease.Lease, job *Job) {
	var h rdb.Holds
	if job.mayHold() {
		h = job.holds()
	}
	if h.ID == "" && h.Limit == 0 {
		w.succeed(l)
		return
	}
	if l.Suspect && !job.Tracked {
		w.end(l, l.Pool.Store.Success(l.Name, h))
		return
	}
	parts := []any{string(StateSucceeded)}
	if job.kept {
		parts = append(parts, job.result)
	}
	if h.Member.Home != "" || l.Suspect || h.Mode != "" && h.Limit > 0 { // a workflow is carried on behind this
		w.end(l, w.conclusion(l, job, StateSucceeded, "", "", parts))
		return
	}
	finish := &rdb.Finish{Lease: l.Name, Holds: h, Ended: time.Now()}
	if job.Tracked {
		finish.Keep = job.keeps()
		finish.Result, _ = packResult(parts...) // they are texts, and what is encoded already
	}
	old := l.Old.Load()
	w.acks.Post(conn.Ending{
		Finish: finish, Store: l.Pool.Store, Field: l.Field, Hash: l.Pool.Hash, Quiet: !old, Ask: old, Answered: l.Ended,
	})
}

// retryJob lets a task that failed wait for its next attempt, or makes it a dead letter.
func (w *Worker) retryJob(l *lease.Lease, job *Job, f *failure) {
	pause, counted, again := job.retries(f)
	if !again {
		w.failJob(l, job, f.reason, f)
		return
	}
	text := strings.ToValidUTF8(cutMiddle(f.text, longestError), "?")
	changes := []wire.Header{{Name: "attempt", Value: job.Attempt}, {Name: "error", Value: text}}
	if left := job.headers.Number(wire.Retry); counted && left > 0 {
		changes = append(changes, wire.Header{Name: "retry", Value: left - 1})
	}
	data, failure := wire.WithHeaders(l.Data, changes...)
	if failure != nil { // cannot be: they are numbers and a text
		w.failJob(l, job, Failed, failed(failure))
		return
	}
	w.retried.Add(1)
	w.count(l, job, job.Path, tally.Retried, time.Since(l.Since))
	about := w.aboutLease(l, job, "retried", f) // while the lease has it
	w.postpone(l, data, job, pause, text)
	w.log.Warn("a task failed, and will run again", append(about, "pause", pause, "kind", f.kind, "task_detail", text)...)
}

func (w *Worker) postpone(l *lease.Lease, data []byte, job *Job, pause time.Duration, why string) {
	to := l.Pool.Store.Keys.Tail()
	if job.grouped {
		to = l.Pool.Store.Keys.GroupTail(job.Group)
	}
	w.end(l, l.Pool.Store.Postponing(l.Name, data, job.holds(), to, pause, why))
}

// end ends the lease of a task that has headers.
func (w *Worker) end(l *lease.Lease, command []string) {
	w.acks.Post(conn.Ending{Packed: conn.AppendCommand(nil, command...), Answered: l.Ended})
}

// failJob makes a dead letter of a task that failed for good, or could not run.
func (w *Worker) failJob(l *lease.Lease, job *Job, reason Reason, err error) {
	w.countBad(l, job, err)
	about := w.aboutLease(l, job, string(reason), err) // while the lease has it
	w.end(l, w.burialOf(l, job, reason, err))
	w.logBad(l.Pool, about, err)
}

// burialOf is the command that makes a dead letter of a task that has headers.
func (w *Worker) burialOf(l *lease.Lease, job *Job, reason Reason, err error) []string {
	detail := detailOf(err)
	if !job.Tracked {
		return burial(l, reason, detail, w.place)
	}
	if reason == Expired {
		return w.conclusion(l, job, StateExpired, reason, detail, []any{string(StateExpired)})
	}
	kind, message, trace := string(reason), detail, ""
	if f, ok := err.(*failure); ok { //nolint:errorlint // what a task returns is a failure, whatever it wraps
		kind, message, trace = f.kind, f.text, detail
	}
	parts := []any{string(StateFailed), kind, strings.ToValidUTF8(message, "?"), strings.ToValidUTF8(trace, "?")}
	return w.conclusion(l, job, StateFailed, reason, detail, parts)
}

// cancellation is the command that ends the lease of a tracked task that has been cancelled.
func (w *Worker) cancellation(l *lease.Lease, job *Job) []string {
	return w.conclusion(l, job, StateCancelled, "", "", []any{string(StateCancelled)})
}

// conclusion is the command that ends the lease of a tracked task, and stores how it ended.
func (w *Worker) conclusion(l *lease.Lease, job *Job, state State, reason Reason, detail string, result []any) []string {
	packed, err := packResult(result...)
	if err != nil { // cannot be: they are texts, and what is encoded already
		packed = nil
	}
	text := ""
	if state == StateFailed {
		text = fmt.Sprintf("%v: %v", result[1], result[2])
	}
	return l.Pool.Store.Concluding(l.Name, rdb.Conclusion{
		Holds: job.holds(), State: string(state), Result: packed, Keep: job.keeps(), Reason: string(reason), Detail: detail, Worker: w.place,
		Error: text, Value: job.value,
	})
}
