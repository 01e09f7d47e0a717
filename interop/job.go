package delayed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

const lookEvery = 250 * time.Millisecond // between two questions to Redis whether a running task has been cancelled

// Job is one execution of a task that has headers; inside of it, CurrentTask.
type Job struct {
	ID       string // empty if the task is not tracked
	Path     string
	Attempt  int       // counted from 1
	Enqueued time.Time // of a tracked task; zero if it is not known
	Group    string

	queue   *Queue
	headers map[string]any
	value   any    // what the function has returned …
	kept    bool   // … and whether anybody wants it
	grouped bool   // it belongs to Group
	slots   string // of the tasks with this concurrency key …
	limit   int64  // … so many may run at once; 0 for a task without one
}

type jobKey struct{}

// CurrentTask is the execution that ctx belongs to. It is nil for a task without headers, of which there is nothing to know.
func CurrentTask(ctx context.Context) *Job {
	job, _ := ctx.Value(jobKey{}).(*Job)
	return job
}

// Progress says how far the task is, for Handle.Status. total is 0 if it is not known. Nothing happens if the task is not tracked.
func (j *Job) Progress(ctx context.Context, done, total float64, note string) error {
	if j == nil || j.ID == "" {
		return nil
	}
	list := []any{done, nil, note}
	if total != 0 {
		list[1] = total
	}
	packed, err := encode(list, false)
	if err == nil {
		_, err = j.queue.caller.call(ctx, "HSET", j.queue.Keys.Task(j.ID), "progress", string(packed))
	}
	return err
}

// RetryAfter is what a task returns that wants to run again after some time, whatever its count of retries. Wrap it to say why.
func RetryAfter(d time.Duration) error { return &retryAfter{d} }

type retryAfter struct{ after time.Duration }

func (r *retryAfter) Error() string { return "the task asked for it" }

// TimedOut is why the context of a task ended that ran for longer than its Timeout (context.Cause), and why it has failed if it then
// returned an error of that context.
type TimedOut struct{ After time.Duration }

func (t *TimedOut) Error() string {
	return fmt.Sprintf("it ran for longer than its timeout of %g s", t.After.Seconds())
}

// notEncodable is the failure of a task whose value has no form in MessagePack.
type notEncodable struct {
	value any
	cause error
}

func (n *notEncodable) Error() string {
	return fmt.Sprintf("it returned %T, which MessagePack cannot carry: %v", n.value, n.cause)
}

// resultTooLarge is the failure of a task whose value is not kept because of its size.
type resultTooLarge struct {
	value      any
	size, most int
}

func (r *resultTooLarge) Error() string {
	return fmt.Sprintf("it returned %T of %d bytes, and a result may have %d: keep it elsewhere and return where it is",
		r.value, r.size, r.most)
}

func newJob(queue *Queue, task call) *Job {
	j := &Job{queue: queue, Path: string(task.path), headers: task.headers}
	j.ID = idOf(j.headers)
	j.Group, j.grouped = j.headers["group"].(string)
	if list, _ := j.headers["concurrency"].([]any); len(list) == 2 {
		key, named := list[0].(string)
		if limit, _ := list[1].(int64); named && limit > 0 {
			j.slots, j.limit = key, limit
		}
	}
	j.Attempt = int(j.number("attempt")) + 1
	if enqueued := j.number("enqueued"); enqueued > 0 {
		j.Enqueued = time.UnixMilli(enqueued)
	}
	_, j.kept = j.headers["result_ttl"]
	return j
}

// buriedJob is what ends a task that cannot be run: somebody may wait for it, if it has the id of a tracked task, in either language. Nil
// for others.
func buriedJob(queue *Queue, data []byte) *Job {
	path, headers, _ := glance(data)
	if idOf(headers) == "" {
		return nil
	}
	return newJob(queue, call{path: []byte(path), headers: headers})
}

// isID tells whether this is the id of a task by its form: it is part of keys, and is cut off again by its length.
func isID(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(text) == 16
}

func (j *Job) number(name string) int64 {
	n, _ := j.headers[name].(int64)
	return n
}

// duration is a header in milliseconds, 0 if it is not there.
func (j *Job) duration(name string) time.Duration { return span(j.number(name)) }

// keeps is how long the end of the task is kept.
func (j *Job) keeps() time.Duration {
	if ttl := j.duration("result_ttl"); ttl > 0 {
		return ttl
	}
	return endedFor
}

// span is a number of milliseconds that a task has, which may be any nonsense.
func span(milliseconds int64) time.Duration {
	const most = int64(100 * 365 * 24 * time.Hour / time.Millisecond)
	return time.Duration(min(max(milliseconds, 0), most)) * time.Millisecond
}

// unique is the unique key, what becomes of it when the task begins, and how long it stays taken.
func (j *Job) unique() (key string, fate Fate, bound time.Duration) {
	key, mode, milliseconds := uniqueOf(j.headers)
	fate = LeaveKey
	switch mode {
	case WhileRunning:
		fate = TakeKey
	case WhileQueued:
		fate = FreeKey
	}
	return key, fate, max(span(milliseconds), time.Millisecond)
}

// expired says why it is too late to begin, by the server's clock, if it is.
func (j *Job) expired(ctx context.Context) error {
	expires := j.number("expires")
	if expires == 0 {
		return nil
	}
	now, _ := j.queue.clock(ctx) //nolint:errcheck // what was known before has to do
	late := now.UnixMilli() - expires
	if late <= 0 {
		return nil
	}
	return unrunnable(Expired, "it should have begun %.1f s before", float64(late)/1000)
}

// context is what the task's function gets. It ends at the soft timeout, and when somebody cancels the task.
func (j *Job) context(ctx context.Context, wanted bool) (context.Context, func()) {
	if !wanted {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, jobKey{}, j))
	if j.ID != "" {
		go j.watch(ctx, cancel)
	}
	limit := j.duration("timeout")
	if limit == 0 {
		return ctx, func() { cancel(nil) }
	}
	ctx, release := context.WithTimeoutCause(ctx, limit, &TimedOut{limit})
	return ctx, func() { release(); cancel(nil) }
}

// watch ends the context when the task has been cancelled.
func (j *Job) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C: // if Redis is away, it is asked again
			found, err := j.queue.caller.call(ctx, "HEXISTS", j.queue.Keys.Task(j.ID), "cancelled")
			if err == nil && found == int64(1) {
				cancel(ErrTaskCancelled)
				return
			}
		}
	}
}

// judge says why the function failed: a function that gives up because its context has ended has failed because of what ended that.
func judge(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	var late *TimedOut
	if !errors.As(cause, &late) && !errors.Is(cause, ErrTaskCancelled) { // the worker is gone
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, cause) {
		if late == nil {
			return errCancelled
		}
		return late
	}
	return err
}

// retries tells whether a failed attempt shall be followed by another, and after which pause.
func (j *Job) retries(err error) (pause time.Duration, counted, again bool) {
	var asked *retryAfter
	if errors.As(err, &asked) {
		return max(asked.after, 0), false, true
	}
	if j.number("retry") == 0 || !j.worthIt(err) {
		return 0, false, false
	}
	return pausesFrom(j.headers["backoff"]).after(j.Attempt), true, true
}

// worthIt tells what the task says about errors of this type, or of those that it wraps.
func (j *Job) worthIt(err error) bool {
	only, restricted := j.headers["retry_on"].([]any)
	never, _ := j.headers["give_up_on"].([]any)
	if !restricted && never == nil {
		return true
	}
	found := !restricted
	for _, kind := range kinds(err) {
		if slices.Contains(never, any(kind)) {
			return false
		}
		found = found || slices.Contains(only, any(kind))
	}
	return found
}

// kinds are the names of the types of an error and of those that it wraps.
func kinds(err error) []string {
	if err == nil {
		return nil
	}
	kind := reflect.TypeOf(err)
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	names := []string{kind.PkgPath() + "." + kind.Name(), kind.String(), kind.Name()}
	switch wrapper := err.(type) { //nolint:errorlint // this is what looks into it
	case interface{ Unwrap() error }:
		return append(names, kinds(wrapper.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			names = append(names, kinds(inner)...)
		}
	}
	return names
}

// kindOf is how those who wait are told what failed.
func kindOf(err error) string {
	var refusal *Unrunnable
	var panicked *panicked
	var late *overran
	if errors.As(err, &refusal) {
		return string(refusal.Reason)
	}
	if errors.As(err, &late) {
		return string(Overran)
	}
	if errors.As(err, &panicked) {
		return "panic"
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", err), "*")
}
