package delayed

import (
	"context"
	"time"
)

const (
	lookEvery  = 500 * time.Millisecond // between two questions to Redis whether a running task has been cancelled
	checkEvery = 100 * time.Millisecond // likewise, if the task itself asks
)

// watch ends the context when the task has been cancelled. It looks at once, and then now and then.
func (j *Job) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for !j.isCancelled(ctx) { // if Redis is away, it is asked again
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
	cancel(ErrTaskCancelled)
}

// isCancelled asks Redis, in a goroutine that no other recover covers; the client and its hooks are the application's.
func (j *Job) isCancelled(ctx context.Context) bool {
	ask := func() (found any, err error) {
		defer catchFault(&err)
		return j.queue.store.Caller.Call(ctx, "HEXISTS", j.queue.store.Keys.Task(j.ID), "cancelled")
	}
	found, err := ask()
	return err == nil && found == int64(1)
}

// CheckCancelled returns ErrTaskCancelled if somebody has cancelled the task: a function that returns that ends as cancelled. It asks
// Redis, ten times a second at most; while that does not answer, it returns nil. Of a task that is not tracked it always does.
func (j *Job) CheckCancelled(ctx context.Context) error {
	if j == nil || !j.Tracked {
		return nil
	}
	if j.cancelled.Load() || context.Cause(ctx) == ErrTaskCancelled { //nolint:errorlint // it is ours
		return ErrTaskCancelled
	}
	last, now := j.askedAt.Load(), time.Now().UnixNano()
	if now-last < int64(checkEvery) || !j.askedAt.CompareAndSwap(last, now) || !j.isCancelled(ctx) {
		return nil
	}
	j.cancelled.Store(true)
	return ErrTaskCancelled
}

// judge says why a function failed, whether its context has ended or not.
func (j *Job) judge(ctx context.Context, err error) error {
	if j.cancelled.Load() && isA(err, ErrTaskCancelled) {
		return errCancelled
	}
	return judge(ctx, err)
}
