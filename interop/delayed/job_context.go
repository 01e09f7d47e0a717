package delayed

import (
	"context"
	"sync"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
)

// taskContext is what the function of a task with headers gets. It ends at the soft timeout, when somebody cancels the task, and with the
// task. Timer, cancelling and looking for a cancel cost more than a small task: they begin when somebody asks for what they are for.
type taskContext struct {
	outer    context.Context
	job      *Job
	deadline time.Time // zero for a task without a soft timeout

	mu     sync.Mutex
	inner  context.Context // once somebody has asked whether it has ended
	cancel func()
	ended  bool // the task has
}

// newContext is the context of an execution that begins now; end is called when it has returned.
func newContext(outer context.Context, job *Job) *taskContext {
	c := &taskContext{outer: outer, job: job}
	if limit := job.duration(wire.Timeout); limit > 0 {
		c.deadline = time.Now().Add(limit)
	}
	return c
}

// Deadline is part of context.Context.
func (c *taskContext) Deadline() (time.Time, bool) {
	if outer, some := c.outer.Deadline(); some && (c.deadline.IsZero() || outer.Before(c.deadline)) {
		return outer, true
	}
	return c.deadline, !c.deadline.IsZero()
}

// Done is part of context.Context.
func (c *taskContext) Done() <-chan struct{} { return c.whole().Done() }

// Err is part of context.Context.
func (c *taskContext) Err() error { return c.whole().Err() }

// Value is part of context.Context.
func (c *taskContext) Value(key any) any {
	if key == (jobKey{}) {
		return c.job
	}
	return c.whole().Value(key) // of context.WithCancel and context.Cause, too, which ask by a key of their own
}

// whole is the context that can end.
func (c *taskContext) whole() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner != nil {
		return c.inner
	}
	ctx, cancel := context.WithCancelCause(c.outer)
	c.cancel = func() { cancel(nil) }
	if !c.deadline.IsZero() {
		timed, release := context.WithDeadlineCause(ctx, c.deadline, &TimedOut{c.job.duration(wire.Timeout)})
		ctx, c.cancel = timed, func() { release(); cancel(nil) }
	}
	c.inner = ctx
	switch {
	case c.ended:
		c.cancel()
	case c.job.Tracked:
		look := time.AfterFunc(lookEvery, func() { c.job.watch(ctx, cancel) })
		stop := c.cancel
		c.cancel = func() { look.Stop(); stop() }
	}
	return ctx
}

// end ends it, as the task has ended.
func (c *taskContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}
