package delayed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
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
	if err := job.expired(); err != nil {
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
	queue, h := l.book.queue, job.holds()
	if h.ID == "" && h.Limit == 0 {
		return nil
	}
	b := Beginning{Holds: h, Bound: job.bound(), Worker: w.place, Attempt: int64(job.Attempt), Group: job.group()}
	start := func() (Start, error) { return queue.Start(ctx, l.name, b) }
	var own []typed
	kinds := []string{"hash", "list", "string", "zset", "hash", "zset"}
	for i, key := range queue.Keys.own(h) {
		if key != queue.Keys.Processing { // which stands for what it has not
			own = append(own, typed{key, kinds[i]})
		}
	}
	return w.insistently(ctx, job, start, own...)
}

// insistently asks whether a task may begin. While Redis is away it tries again: to begin twice under one lease does no harm. If Redis
// refuses because another program uses one of the task's own keys, the task cannot begin.
func (w *Worker) insistently(ctx context.Context, job *Job, ask func() (Start, error), own ...typed) error {
	for failures := 0; ; failures++ {
		answer, err := ask()
		if err == nil && answer == StartSuperseded && failures > 0 { // the first time it may have been told to wait
			return errAside
		}
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
		l.answered(int64(0), false)
	case errors.Is(err, errBusy), errors.Is(err, errFull), errors.Is(err, errAside):
		w.aside.Add(1)
		w.log.Debug("a task waits", "path", job.Path, "why", err)
		l.release()
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
	w.postpone(l, data, job, pause, text)
}

func (w *Worker) postpone(l *lease, data []byte, job *Job, pause time.Duration, why string) {
	to := l.book.queue.Keys.tail()
	if job.grouped {
		to = l.book.queue.Keys.within(job.Group)
	}
	w.end(l, scripts["postpone"].command(l.book.queue.postponing(l.name, data, job.holds(), to, pause, why)))
}

// end ends the lease of a task that has headers.
func (w *Worker) end(l *lease, command []string) {
	w.ends.post(ending{packed: appendCommand(nil, command...), answered: l.ended})
}

// succeedUntracked is succeed for a task with headers, which may have a slot.
func (w *Worker) succeedUntracked(l *lease, job *Job) {
	k, h := l.book.queue.Keys, job.holds()
	if h.Limit == 0 {
		w.succeed(l)
		return
	}
	w.end(l, scripts["succeed"].command(k.ending(h, k.Lost), []string{l.name}))
}

// failJob makes a dead letter of a task that failed for good, or could not run.
func (w *Worker) failJob(l *lease, job *Job, reason Reason, err error) {
	detail := w.countBad(l, err)
	if job.ID == "" {
		w.end(l, l.burial(reason, detail, w.place))
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
	keys, args := l.book.queue.concluding(l.name, Conclusion{
		Holds: job.holds(), State: state, Result: packed, Keep: job.keeps(), Reason: reason, Detail: detail, Worker: w.place,
		Error: text,
	})
	w.end(l, scripts["conclude"].command(keys, args))
}
