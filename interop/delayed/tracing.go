package delayed

import (
	"context"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// Trace is a W3C trace context, in its textual form; empty where there is none.
type Trace struct {
	Parent string // traceparent
	State  string // tracestate
}

// Sending is an enqueue of a task, of many or of a workflow, as whoever is around it sees it: see AroundEnqueue.
type Sending struct {
	Queue    string // its name; empty for what is published, to any queue
	Path     string // of the function; empty for many tasks and for a workflow
	Trace    Trace  // which the tasks shall carry: to be set before next is called
	ID       string // of the task, if it has one, once next has returned
	Workflow string // the id of the workflow, likewise
	Count    int    // of tasks that are in the queue for certain, likewise
}

// AroundEnqueue puts a function around each enqueue by a Queue, as traces need it: it calls next once, with the context that it got or
// one made of that, and returns its error.
func AroundEnqueue(around func(ctx context.Context, s *Sending, next func(context.Context) error) error) QueueOption {
	return func(q *Queue) { q.around = around }
}

type sendingKey struct{}

// within calls send within the function that is around enqueues.
func (q *Queue) within(ctx context.Context, s *Sending, send func(context.Context, *Sending) error) error {
	return q.around(ctx, s, func(ctx context.Context) error { return send(context.WithValue(ctx, sendingKey{}, s), s) })
}

// traceIn is the trace context of the enqueue that ctx belongs to.
func (q *Queue) traceIn(ctx context.Context) Trace {
	if q.around == nil {
		return Trace{}
	}
	s, _ := ctx.Value(sendingKey{}).(*Sending)
	if s == nil {
		return Trace{}
	}
	return s.Trace
}

// trace writes a trace context, if there is one.
func (w *writer) trace(t Trace) {
	if t.Parent == "" {
		return
	}
	w.text("traceparent", t.Parent)
	if t.State != "" {
		w.text("tracestate", t.State)
	}
}

// Queue is the name of the queue from which the task was taken.
func (j *Job) Queue() string { return j.queue.Name() }

// Flow is the id of the workflow of which the task is a node; empty for others.
func (j *Job) Flow() string {
	if j.member.Home == "" {
		return ""
	}
	return rdb.NodeID(j.member.Flow, -1)
}

// Trace is the W3C trace context in which the task was enqueued, unchecked.
func (j *Job) Trace() Trace {
	parent, _ := j.headers.Text(wire.TraceParent)
	state, _ := j.headers.Text(wire.TraceState)
	return Trace{parent, state}
}

// Outcome says how an attempt ends whose function has returned err: "succeeded", "retried", "failed" or "cancelled", and, if that is a
// failure, the type of the error, as RetryOn may name it. For middlewares; ctx is theirs.
func (j *Job) Outcome(ctx context.Context, err error) (outcome, kind string) {
	switch err = j.judge(ctx, err); {
	case err == nil:
		return "succeeded", ""
	case err == errCancelled: //nolint:errorlint // it is ours
		return "cancelled", ""
	}
	if refused, ok := err.(*Unrunnable); ok { //nolint:errorlint // what a task returns is a failure, whatever it wraps
		return "failed", string(refused.Reason)
	}
	f := failed(err).(*failure) //nolint:forcetypeassert // it is one
	switch _, counted, again := j.retries(f); {
	case again && !counted:
		return "retried", "" // the task asked for it
	case again:
		return "retried", f.kind
	}
	return "failed", f.kind
}
