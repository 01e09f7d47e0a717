package delayed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	busyPause    = time.Second // until a task is tried again whose unique key another one has, or with whose other key enough run
	longestError = 200         // bytes of an attempt's error that a task carries
	resultHead   = 11          // bytes of a result before its value: an array that begins with "succeeded"
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
)

// live runs a task that has headers. How it ends is for endJob.
func (w *Worker) live(ctx context.Context, s *slot, task call) error {
	job := s.job
	if job.grouped {
		s.current.book.gate.grouped.Store(true)
	}
	h, missing := w.find(task)
	if missing != nil && w.unreadyFor > 0 && job.expired(w.clock.now()) == nil { // it has not begun, and need not here
		return w.notReady(ctx, job, missing)
	}
	if err := w.begin(ctx, s.current, job); err != nil {
		return err
	}
	defer w.oversee(s)()
	if err := job.expired(w.clock.now()); err != nil {
		return err
	}
	if missing != nil {
		return missing
	}
	w.stale.ready()
	s.running.Store(h)
	ctx, end := job.context(ctx, h.takesCtx)
	defer end()
	args, err := h.bind(task.payload)
	if err != nil {
		return err
	}
	value, err := h.callForValue(ctx, args, job.kept)
	if err = judge(ctx, err); err == errCancelled { //nolint:errorlint // it is ours
		return err
	}
	if err == nil {
		err = job.pack(value, w.resultSize)
	}
	return failed(err)
}

var refusals = map[Start]error{
	StartSuperseded: errSuperseded, StartCancelled: errCancelled, StartBusy: errBusy, StartFull: errFull,
}

// begin says that a task begins which is tracked or has a concurrency key.
func (w *Worker) begin(ctx context.Context, l *lease, job *Job) error {
	queue := l.book.queue
	if job.limit > 0 {
		acquire := func() (Start, error) { return queue.Acquire(ctx, l.name, job.slots, job.limit, trackedFor) }
		if err := w.insistently(ctx, job, acquire, typed{queue.Keys.Slots(job.slots), "hash"}); err != nil {
			return err
		}
	}
	if job.ID == "" {
		return nil
	}
	key, fate, bound := job.unique()
	b := Beginning{job.ID, key, fate, bound, w.place, int64(job.Attempt)}
	start := func() (Start, error) { return queue.Start(ctx, l.name, b) }
	return w.insistently(ctx, job, start, typed{queue.Keys.Task(job.ID), "hash"}, typed{queue.Keys.Unique(key), "string"})
}

// insistently asks whether a task may begin. While Redis is away it tries again: to begin twice under one lease does no harm. If Redis
// refuses because another program uses one of the task's own keys, the task cannot begin.
func (w *Worker) insistently(ctx context.Context, job *Job, ask func() (Start, error), own ...typed) error {
	for failures := 0; ; failures++ {
		answer, err := ask()
		if err == nil {
			return refusals[answer]
		}
		if aboutTypes(err) {
			if refusal := job.queue.foreign(ctx, own...); refusal != nil {
				return refusal
			}
		}
		w.log.Warn("could not say that a task begins; trying again", "path", job.Path, "error", err)
		select {
		case <-time.After(min(firstPause<<min(failures, 10), longestPause)):
		case <-w.stopping:
			return errNotBegun
		}
	}
}

// endJob ends the lease of a task that has headers. False if it has given the task back.
func (w *Worker) endJob(l *lease, job *Job, err error) bool {
	switch err {
	case errNotBegun:
		w.giveBack([]*lease{l})
		return false
	case errSuperseded:
		w.aside.Add(1)
		l.judge(int64(0), false)
		w.free(l, job)
		return true
	case errBusy, errFull:
		w.aside.Add(1)
		w.postpone(l, l.data, job, StateScheduled, busyPause, err.Error())
		return true
	case errCancelled:
		w.aside.Add(1)
		w.end(l, job, w.cancellation(l, job))
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

func (w *Worker) succeedJob(l *lease, job *Job) {
	if job.ID == "" {
		w.succeedUntracked(l, job)
		return
	}
	parts := []any{string(StateSucceeded)}
	if job.kept {
		parts = append(parts, job.result)
	}
	w.concludeJob(l, job, StateSucceeded, "", "", parts)
}

// retryJob lets a task that failed wait for its next attempt, or makes it a dead letter.
func (w *Worker) retryJob(l *lease, job *Job, f *failure) {
	pause, counted, again := job.retries(f)
	if !again {
		w.failJob(l, job, f.reason, f)
		return
	}
	text := strings.ToValidUTF8(cutMiddle(f.text, longestError), "?")
	changes := []header{{"attempt", job.Attempt}, {"error", text}}
	if left := job.number("retry"); counted && left > 0 {
		changes = append(changes, header{"retry", left - 1})
	}
	data, failure := withHeaders(l.data, changes...)
	if failure != nil { // cannot be: they are numbers and a text
		w.failJob(l, job, Failed, failed(failure))
		return
	}
	w.retried.Add(1)
	w.postpone(l, data, job, StateRetrying, pause, text)
	w.log.Warn("a task failed, and will run again", "path", job.Path, "attempt", job.Attempt, "pause", pause, "kind", f.kind, "error", text)
}

func (w *Worker) postpone(l *lease, data []byte, job *Job, state State, pause time.Duration, why string) {
	to := l.book.queue.Keys.tail()
	if job.grouped {
		to = l.book.queue.Keys.within(job.Group)
	}
	keys, args := l.book.queue.postponing(l.name, data, job.ID, state, to, pause, why)
	w.end(l, job, scripts["postpone"].command(keys, args))
}

// end ends the lease of a task that has headers. If it has a slot, that is removed before the lease can be used again: it counts no
// more, and need not lie about for a week.
func (w *Worker) end(l *lease, job *Job, command []string) {
	packed := appendCommand(nil, command...)
	if job.limit == 0 {
		w.ends.post(ending{packed: packed, answered: l.ended})
		return
	}
	w.ends.post(ending{packed: packed, answered: l.judge})
	w.free(l, job)
}

// free releases a lease that holds nothing any more, and removes its slot.
func (w *Worker) free(l *lease, job *Job) {
	if job.limit == 0 {
		l.release()
		return
	}
	tidy := appendCommand(nil, "HDEL", l.book.queue.Keys.Slots(job.slots), l.name)
	w.ends.post(ending{packed: tidy, tidies: true, answered: func(any, bool) { l.release() }})
}

// succeedUntracked is succeed for a task with headers. One that has a slot is ended by a command with a reply: the next task may want
// the slot at once.
func (w *Worker) succeedUntracked(l *lease, job *Job) {
	k := l.book.queue.Keys
	switch {
	case job.limit == 0:
		w.succeed(l)
	case l.suspect:
		w.end(l, job, scripts["succeed"].command([]string{k.Processing, k.Lost}, []string{l.name}))
	default:
		w.end(l, job, []string{"HDEL", k.Processing, l.name})
	}
}

// failJob makes a dead letter of a task that failed for good, or could not run.
func (w *Worker) failJob(l *lease, job *Job, reason Reason, err error) {
	w.countBad(err)
	w.end(l, job, w.burialOf(l, job, reason, err))
	w.logBad(l.book, job.Path, err)
}

// burialOf is the command that makes a dead letter of a task that has headers.
func (w *Worker) burialOf(l *lease, job *Job, reason Reason, err error) []string {
	detail := detailOf(err)
	if job.ID == "" {
		return l.burial(reason, detail, w.place)
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

// concludeJob ends the lease of a tracked task, and stores how it ended.
func (w *Worker) concludeJob(l *lease, job *Job, state State, reason Reason, detail string, result []any) {
	w.end(l, job, w.conclusion(l, job, state, reason, detail, result))
}

// cancellation is the command that ends the lease of a tracked task that has been cancelled.
func (w *Worker) cancellation(l *lease, job *Job) []string {
	return w.conclusion(l, job, StateCancelled, "", "", []any{string(StateCancelled)})
}

// conclusion is the command that ends the lease of a tracked task, and stores how it ended.
func (w *Worker) conclusion(l *lease, job *Job, state State, reason Reason, detail string, result []any) []string {
	packed, err := packResult(result...)
	if err != nil { // cannot be: they are texts, and what is encoded already
		packed = nil
	}
	text := ""
	if state == StateFailed {
		text = fmt.Sprintf("%v: %v", result[1], result[2])
	}
	key, _, _ := job.unique()
	keys, args := l.book.queue.concluding(l.name, Conclusion{
		ID: job.ID, Unique: key, State: state, Result: packed, Keep: job.keeps(), Reason: reason, Detail: detail, Worker: w.place,
		Error: text,
	})
	return scripts["conclude"].command(keys, args)
}
