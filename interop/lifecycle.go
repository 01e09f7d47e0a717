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
	if err := w.begin(ctx, s.current, job); err != nil {
		return err
	}
	defer w.oversee(s)()
	if err := job.expired(ctx); err != nil {
		return err
	}
	h, found := w.handlers[job.Path]
	if !found {
		return unrunnable(UnknownFunction, "nothing is registered as %q in this worker", task.path)
	}
	s.running.Store(h)
	ctx, end := job.context(ctx, h.takesCtx)
	defer end()
	value, err := h.callForValue(ctx, task.payload)
	job.value = value
	return judge(ctx, err)
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
	var refusal *Unrunnable
	switch {
	case errors.Is(err, errNotBegun):
		w.giveBack([]*lease{l})
		return false
	case errors.Is(err, errSuperseded):
		w.aside.Add(1)
		l.judge(int64(0), false)
		w.free(l, job)
	case errors.Is(err, errBusy), errors.Is(err, errFull):
		w.aside.Add(1)
		w.postpone(l, l.data, job, StateScheduled, busyPause, err.Error())
	case errors.Is(err, errCancelled):
		w.aside.Add(1)
		w.concludeJob(l, job, StateCancelled, "", "", []any{string(StateCancelled)})
	case err == nil:
		w.succeedJob(l, job)
	case errors.As(err, &refusal):
		w.failJob(l, job, refusal.Reason, err)
	default:
		w.retryJob(l, job, err)
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
		packed, err := encode(job.value, false)
		if err != nil {
			err = &notEncodable{job.value, err}
		} else if size := resultHead + len(packed); size > w.resultSize {
			err = &resultTooLarge{job.value, size, w.resultSize}
		}
		if err != nil {
			w.failJob(l, job, Failed, err)
			return
		}
		parts = append(parts, raw(packed))
	}
	w.concludeJob(l, job, StateSucceeded, "", "", parts)
}

// retryJob lets a task that failed wait for its next attempt, or makes it a dead letter.
func (w *Worker) retryJob(l *lease, job *Job, err error) {
	pause, counted, again := job.retries(err)
	if !again {
		w.failJob(l, job, reasonOf(err), err)
		return
	}
	text := strings.ToValidUTF8(err.Error(), "?")
	text = strings.ToValidUTF8(text[:min(len(text), longestError)], "")
	changes := []header{{"attempt", job.Attempt}, {"error", text}}
	if left := job.number("retry"); counted && left > 0 {
		changes = append(changes, header{"retry", left - 1})
	}
	data, failure := withHeaders(l.data, changes...)
	if failure != nil { // cannot be: they are numbers and a text
		w.failJob(l, job, Failed, failure)
		return
	}
	w.retried.Add(1)
	w.log.Warn("a task failed, and will run again", "path", job.Path, "attempt", job.Attempt, "pause", pause, "error", text)
	w.postpone(l, data, job, StateRetrying, pause, text)
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
	detail := w.countBad(l, err)
	if job.ID == "" {
		w.end(l, job, l.burial(reason, detail, w.place))
		return
	}
	if reason == Expired {
		w.concludeJob(l, job, StateExpired, reason, detail, []any{string(StateExpired)})
		return
	}
	message, trace := err.Error(), detail
	var refusal *Unrunnable
	if errors.As(err, &refusal) {
		message, trace = refusal.Detail, ""
	}
	message = strings.ToValidUTF8(message[:min(len(message), longestDetail)], "?")
	w.concludeJob(l, job, StateFailed, reason, detail, []any{string(StateFailed), kindOf(err), message, strings.ToValidUTF8(trace, "?")})
}

// concludeJob ends the lease of a tracked task, and stores how it ended.
func (w *Worker) concludeJob(l *lease, job *Job, state State, reason Reason, detail string, result []any) {
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
	w.end(l, job, scripts["conclude"].command(keys, args))
}
