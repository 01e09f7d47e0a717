package delayed

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/clock"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// Job is one execution of a task that has headers; inside of it, CurrentTask.
type Job struct {
	ID       string // empty if the task has none
	Tracked  bool   // Redis keeps its state under the id
	Path     string
	Attempt  int       // counted from 1
	Enqueued time.Time // of a tracked task; zero if it is not known
	Group    string
	Metadata map[string]string // what its producer said about it; tasks that it submits by an App inherit that

	queue   *Queue
	headers wire.Headers
	result  wire.Raw // what the function has returned, packed …
	kept    bool     // … if anybody wants it
	lease   string   // the name of that under which the task is held
	member  rdb.Member
	added   atomic.Int64 // calls of AddToFlow without a name
	value   []byte       // of a node of a workflow: its result, for those that come after; empty for nothing
	grouped bool         // it belongs to Group

	askedAt   atomic.Int64 // nanoseconds since 1970 when CheckCancelled asked Redis last
	cancelled atomic.Bool  // it has said so
}

type jobKey struct{}

// CurrentTask is the execution that ctx belongs to. It is nil for a task without headers, of which there is nothing to know.
func CurrentTask(ctx context.Context) *Job {
	job, _ := ctx.Value(jobKey{}).(*Job)
	return job
}

// Progress says how far the task is, for Handle.Status. total is 0 if it is not known. Nothing happens if the task is not tracked.
func (j *Job) Progress(ctx context.Context, done, total float64, note string) error {
	if j == nil || !j.Tracked {
		return nil
	}
	list := []any{done, nil, note}
	if total != 0 {
		list[1] = total
	}
	packed, err := wire.Encode(list, false)
	if err == nil {
		_, err = j.queue.store.Progress(ctx, j.ID, packed)
	}
	return err
}

// RetryAfter is what a task returns that wants to run again after some time, whatever its count of retries. Wrap it to say why, by
// fmt.Errorf. Among errors that errors.Join joins it counts if all others are RetryAfter, too, or context.Canceled; the longest time
// wins. Beside any other error the task has failed.
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
	value any
	size  string
	most  int
}

func (r *resultTooLarge) Error() string {
	return fmt.Sprintf("it returned %T of %s bytes, and a result may have %d: keep it elsewhere and return where it is", r.value,
		r.size, r.most)
}

func newJob(queue *Queue, task call) *Job {
	j := &Job{queue: queue, Path: string(task.path), headers: task.headers}
	if j.ID = j.headers.TrackedID(); j.ID != "" {
		j.Tracked = true
	} else {
		j.ID = j.headers.UntrackedID()
	}
	j.Metadata, _ = j.headers.Value(wire.Metadata).(map[string]string)
	j.Group, j.grouped = j.headers.Text(wire.Group)
	j.Attempt = int(min(max(j.headers.Number(wire.Attempt), 0), wire.MostCount)) + 1
	if enqueued := j.headers.Number(wire.Enqueued); enqueued > 0 {
		j.Enqueued = time.UnixMilli(enqueued)
	}
	_, j.kept = j.headers.Value(wire.ResultTTL).(int64)
	j.member = rdb.MemberOf(&j.headers)
	return j
}

// buriedJob is what ends a task that cannot be run: somebody may wait for it, if it has the id of a tracked task, in either language. Nil
// for others.
func buriedJob(queue *Queue, data []byte) *Job {
	path, headers, _ := wire.Peek(data)
	if headers.TrackedID() == "" {
		return nil
	}
	return newJob(queue, call{path: []byte(path), headers: headers})
}

// duration is a header in milliseconds, 0 if it is not there.
func (j *Job) duration(name wire.Name) time.Duration { return rdb.Span(j.headers.Number(name)) }

// keeps is how long the end of the task is kept.
func (j *Job) keeps() time.Duration { return rdb.KeepsOf(&j.headers) }

// holds is what the task may hold.
func (j *Job) holds() rdb.Holds { return rdb.HoldsOf(&j.headers) }

// mayHold is false for a task that holds nothing: nobody has to be asked before it begins, and nothing becomes free when it ends.
func (j *Job) mayHold() bool { return j.Tracked || j.headers.Has(wire.Concurrency) }

// bound is how long a unique key stays taken that the task takes when it begins.
func (j *Job) bound() time.Duration {
	_, _, milliseconds := j.headers.UniqueKey()
	return max(rdb.Span(milliseconds), time.Millisecond)
}

// group is whose task it is, nil for a task without one.
func (j *Job) group() *string {
	if !j.grouped {
		return nil
	}
	return &j.Group
}

// expired says why it is too late to begin now, by the server's clock, if it is.
func (j *Job) expired(clock *clock.Server) error {
	expires := j.headers.Number(wire.Expires)
	if expires <= 0 {
		return nil
	}
	late := clock.Now().UnixMilli() - expires
	if late <= 0 {
		return nil
	}
	return unrunnable(Expired, "it should have begun %.1f s before", float64(late)/1000)
}

// judge says why the function failed: a function that gives up because its context has ended has failed because of what ended that.
// One that has other errors beside that, joined, has failed by those, too.
func judge(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	late, timed := cause.(*TimedOut)       //nolint:errorlint // it is ours
	cancelled := cause == ErrTaskCancelled //nolint:errorlint // likewise
	ends := []error{context.Canceled, context.DeadlineExceeded, cause}
	switch {
	case cancelled && slices.ContainsFunc(ends, func(end error) bool { return isA(err, end) }):
		return errCancelled
	case timed && isBare(err, ends...):
		return late
	case timed && slices.ContainsFunc(ends, func(end error) bool { return isA(err, end) }):
		return &lateWith{late, err}
	}
	return err // the worker is gone, or it is of something else
}

// lateWith is the failure of a task that ran into its timeout, and had other errors then.
type lateWith struct {
	late *TimedOut
	err  error
}

func (l *lateWith) Error() string { return said(l.late) + "; " + said(l.err) }

func (l *lateWith) Unwrap() []error { return []error{l.late, l.err} }

// retries reports whether a failed attempt shall be followed by another, and after which pause.
func (j *Job) retries(f *failure) (pause time.Duration, counted, again bool) {
	if pause, asked := f.asks(); asked {
		return pause, false, true
	}
	if j.headers.Number(wire.Retry) == 0 || !j.worthIt(f) {
		return 0, false, false
	}
	return pausesFrom(j.headers.Value(wire.Backoff)).after(j.Attempt), true, true
}

// worthIt tells what the task says about errors of these types, or of those that they wrap: each of those that are joined has to be
// among those that are retried, and none among those that are not.
func (j *Job) worthIt(f *failure) bool {
	only, never := j.headers.Texts(wire.RetryOn), j.headers.Texts(wire.GiveUpOn)
	for _, each := range f.leaves {
		if slices.ContainsFunc(each.names, func(name string) bool { return slices.Contains(never, name) }) {
			return false
		}
		if only != nil && !slices.ContainsFunc(each.names, func(name string) bool { return slices.Contains(only, name) }) {
			return false
		}
	}
	return true
}

// pack packs what the function has returned, if anybody wants it.
func (j *Job) pack(value any, most int) error {
	if !j.wanted() {
		return nil
	}
	packed, size, err := wire.EncodeWithin(value, most-resultHead)
	switch {
	case isA(err, wire.ErrMany):
		return &resultTooLarge{value, fmt.Sprintf("more than %d", most), most}
	case err != nil:
		return &notEncodable{value, err}
	case size > most-resultHead:
		return &resultTooLarge{value, fmt.Sprint(size + resultHead), most}
	}
	j.result = packed
	if j.member.Home != "" && (len(packed) != 1 || packed[0] != 0xc0) {
		j.value = append(wire.AppendString(wire.AppendArray(nil, 2), string(StateSucceeded)), packed...)
	}
	return nil
}

// wanted reports whether anybody wants what the function returns.
func (j *Job) wanted() bool { return j.kept || j.member.Home != "" }
