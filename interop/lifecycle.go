package delayed

import (
	"context"
	"errors"
	"strings"
	"time"
)

const (
	busyPause    = time.Second // until a task is tried again whose unique key another one has
	longestError = 200         // bytes of an attempt's error that a task carries
)

// Why a task with headers did not run to its end, although nothing is wrong with it.
var (
	errSuperseded = errors.New("its lease was lost before it began")
	errBusy       = errors.New("another task with its unique key is running")
	errCancelled  = errors.New("it has been cancelled")
	errNotBegun   = errors.New("the worker leaves, and could not say that the task begins")
)

// live runs a task that has headers. How it ends is for endJob.
func (w *Worker) live(ctx context.Context, s *slot, task call) error {
	job := s.job
	if job.ID != "" {
		if err := w.begin(ctx, s.current, job); err != nil {
			return err
		}
	}
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

// begin says that a tracked task begins. While Redis is away it tries again: to begin twice under one lease does no harm.
func (w *Worker) begin(ctx context.Context, l *lease, job *Job) error {
	key, fate, bound := job.unique()
	for failures := 0; ; failures++ {
		answer, err := l.book.queue.Start(ctx, l.name, job.ID, key, fate, bound, w.place)
		if err != nil {
			w.log.Warn("could not say that a task begins; trying again", "path", job.Path, "error", err)
			select {
			case <-time.After(min(firstPause<<min(failures, 10), longestPause)):
				continue
			case <-w.stopping:
				return errNotBegun
			}
		}
		switch answer {
		case StartBegins:
			return nil
		case StartCancelled:
			return errCancelled
		case StartBusy:
			return errBusy
		}
		return errSuperseded
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
	case errors.Is(err, errBusy):
		w.aside.Add(1)
		w.postpone(l, l.data, job, busyPause, err.Error())
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
		w.succeed(l)
		return
	}
	parts := []any{string(StateSucceeded)}
	if job.kept {
		packed, err := encode(job.value, false)
		if err != nil {
			w.failJob(l, job, Failed, &notEncodable{job.value, err})
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
		w.failJob(l, job, Failed, err)
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

func (w *Worker) postpone(l *lease, data []byte, job *Job, pause time.Duration, failure string) {
	keys, args := l.book.queue.postponing(l.name, data, job.ID, pause, failure)
	w.ends.post(ending{packed: appendCommand(nil, scripts["postpone"].command(keys, args)...), answered: l.ended})
}

// failJob makes a dead letter of a task that failed for good, or could not run.
func (w *Worker) failJob(l *lease, job *Job, reason Reason, err error) {
	if job.ID == "" {
		w.endBadly(l, err)
		return
	}
	detail := w.countBad(l, err)
	if reason == Expired {
		w.concludeJob(l, job, StateExpired, reason, detail, []any{string(StateExpired)})
		return
	}
	message := strings.ToValidUTF8(err.Error(), "?")
	var refusal *Unrunnable
	if errors.As(err, &refusal) {
		message = refusal.Detail
	}
	w.concludeJob(l, job, StateFailed, reason, detail, []any{string(StateFailed), kindOf(err), message, strings.ToValidUTF8(detail, "?")})
}

// concludeJob ends the lease of a tracked task, and stores how it ended.
func (w *Worker) concludeJob(l *lease, job *Job, state State, reason Reason, detail string, result []any) {
	packed, err := packResult(result...)
	if err != nil { // cannot be: they are texts, and what is encoded already
		packed = nil
	}
	keep := job.duration("result_ttl")
	if keep == 0 {
		keep = endedFor
	}
	key, _, _ := job.unique()
	keys, args := l.book.queue.concluding(l.name, Conclusion{
		ID: job.ID, Unique: key, State: state, Result: packed, Keep: keep, Reason: reason, Detail: detail, Worker: w.place,
	})
	w.ends.post(ending{packed: appendCommand(nil, scripts["conclude"].command(keys, args)...), answered: l.ended})
}
