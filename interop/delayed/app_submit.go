package delayed

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	priorityHigh   = "high"
	priorityNormal = "normal"
	priorityLow    = "low"
	firstRetry     = time.Second // the pause before the first retry of a task of an App, without jitter …
	longestRetry   = 10 * time.Minute
)

// OnQueue names the queue of an App to which a task goes.
func OnQueue(name string) TaskOption { return func(o *taskOptions) { o.queue = &name } }

// Priority puts a task of an App before (high) or behind (low) the others of its queue (normal), which is one of AppOptions.Priorities.
func Priority(band string) TaskOption { return func(o *taskOptions) { o.priority = band } }

// Call is a call of a function: what App.SubmitMany and the workflows of an App take.
type Call struct {
	Function any            // its path, or a Go function that has been registered
	Args     []any          // in their order
	Keywords map[string]any // of a Python function
	Options  []TaskOption   // beside those with which the function was registered or declared
}

// CallOf is a call of a function, or of the one with this path.
func CallOf(function any, args ...any) Call { return Call{Function: function, Args: args} }

// With is the same call with more options.
func (c Call) With(options ...TaskOption) Call {
	c.Options = slices.Concat(c.Options, options)
	return c
}

// Submit enqueues a call of a function: a Go function that is registered, or a path, of Go (`package/path.Function`) or Python
// (`module.path:function`). The options count beside those with which it was registered or declared, and before them. If the function is
// registered here, arguments that do not fit it are refused. A task that is submitted inside another one, with the context of that,
// inherits its Metadata.
//
// Unless the App has WireUpstream the handle has an id, which logs and dead letters show; Status and Result need Track or ResultTTL. The
// errors are those of Queue.Submit.
func (a *App) Submit(ctx context.Context, function any, args []any, options ...TaskOption) (*Handle, error) {
	task, full, err := a.task(ctx, Call{Function: function, Args: args, Options: options}, nil)
	if err != nil {
		return nil, err
	}
	queue, err := a.queueNamed(full)
	if err != nil {
		return nil, err
	}
	return queue.Submit(ctx, task)
}

// SubmitMany enqueues calls, one queue after the other, and in each in their order and in chunks, as Queue.EnqueueMany does. If one of
// them cannot work, none is enqueued. It returns a handle for each; if something goes wrong on the way, nil for those that are not in
// their queue for certain.
func (a *App) SubmitMany(ctx context.Context, calls []Call) ([]*Handle, error) {
	handles := make([]*Handle, len(calls))
	var parts []*part // in the order of their first tasks
	asked := map[string]appTask{}
	for i, call := range calls {
		task, full, err := a.task(ctx, call, asked)
		if err != nil {
			return handles, fmt.Errorf("call %d: %w", i, err)
		}
		at := slices.IndexFunc(parts, func(p *part) bool { return p.full == full })
		if at < 0 {
			at, parts = len(parts), append(parts, &part{full: full})
		}
		parts[at].tasks, parts[at].places = append(parts[at].tasks, task), append(parts[at].places, i)
	}
	for _, p := range parts {
		queue, err := a.queueNamed(p.full)
		if err != nil {
			return handles, err
		}
		added := func(number int, h *Handle) { handles[p.places[number]] = h }
		if _, err = queue.enqueueEach(ctx, slices.Values(p.tasks), added); err != nil {
			return handles, err
		}
	}
	return handles, nil
}

// part is what SubmitMany has for one queue.
type part struct {
	full   string // its name on Redis
	tasks  []Task
	places []int // of them among the calls
}

// task is the task for a call, and the name on Redis of its queue. before, if it is not nil, has what earlier calls without options of
// their own asked for, by path.
func (a *App) task(ctx context.Context, c Call, before map[string]appTask) (Task, string, error) {
	var inherited map[string]string
	if parent := CurrentTask(ctx); parent != nil && a.options.Wire == WireDelayed {
		inherited = parent.Metadata
	}
	task, full, err := a.taskOf(c, before, inherited)
	if own, ok := task.(*GoTask); ok && err == nil {
		err = a.fits(own)
	}
	return task, full, err
}

// callOf is task for a workflow, which adds what is inherited; mapped: of what a map calls with an element before the arguments.
func (a *App) callOf(c Call, before map[string]appTask, mapped bool) (Task, string, error) {
	task, full, err := a.taskOf(c, before, nil)
	if own, ok := task.(*GoTask); ok && err == nil && !mapped {
		err = a.fits(own)
	}
	return task, full, err
}

// taskOf is task without looking whether the arguments fit.
func (a *App) taskOf(c Call, before map[string]appTask, inherited map[string]string) (Task, string, error) {
	path, err := a.pathOf(c.Function)
	if err != nil {
		return nil, "", err
	}
	asked, same := before[path]
	if !same || len(c.Options) > 0 {
		if asked, err = a.asked(path, c.Options); err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
	}
	if before != nil && len(c.Options) == 0 {
		before[path] = asked
	}
	o := asked.options
	if len(inherited) > 0 {
		own := *o // others may share it
		own.metadata = maps.Clone(inherited)
		maps.Copy(own.metadata, o.metadata)
		o = &own
	}
	if strings.Contains(path, wire.Separator) {
		if a.serves(asked.queue) {
			return nil, "", fmt.Errorf("%w: %s is a Python function, and %q is a queue of Go workers: give it OnQueue of another",
				ErrInvalidTask, path, asked.queue)
		}
		return &PyTask{path: path, args: c.Args, kwargs: c.Keywords, options: o}, asked.full, nil
	}
	if len(c.Keywords) > 0 {
		return nil, "", fmt.Errorf("%w: %s is a Go function, which has no keyword arguments", ErrInvalidTask, path)
	}
	return &GoTask{path: path, args: c.Args, options: o}, asked.full, nil
}

// fits says why a task does not fit its function, if that is known here.
func (a *App) fits(task *GoTask) error {
	known := a.known(task.path)
	if known == nil || known.handler == nil {
		return nil
	}
	payload, err := task.payload()
	if err == nil {
		_, err = known.handler.arguments(payload)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInvalidTask, task.path, err)
	}
	return nil
}

// serves reports whether the application's workers serve a queue.
func (a *App) serves(queue string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.options.Queues, queue) || slices.Contains(a.served, queue)
}

func (a *App) known(path string) *appFunction {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.functions[path]
}

// pathOf is the path of what a Call names.
func (a *App) pathOf(function any) (string, error) {
	if path, ok := function.(string); ok {
		return path, nil
	}
	if value := reflect.ValueOf(function); value.Kind() != reflect.Func || value.IsNil() {
		return "", fmt.Errorf("%w: a call names a function or its path, not %T", ErrInvalidTask, function)
	}
	a.mu.Lock()
	path, known := a.paths[pathOf(function)]
	a.mu.Unlock()
	switch {
	case known && path == "":
		return "", fmt.Errorf("%w: %s is registered under several paths: give the path", ErrInvalidTask, pathOf(function))
	case known:
		return path, nil
	}
	return ownPath(function)
}

// appTask is what a task of an App asks for, and where it goes.
type appTask struct {
	options *taskOptions // which nobody changes any more
	queue   string       // without prefix and priority
	full    string       // its name on Redis
}

// asked is what a task asks for by the options of its function and some more.
func (a *App) asked(path string, more []TaskOption) (appTask, error) {
	o := &taskOptions{}
	known := a.known(path)
	if known != nil && len(more) == 0 {
		return known.asked, nil
	}
	if known != nil {
		o = o.with(known.options)
	}
	o = o.with(more)
	found := appTask{options: o, queue: a.options.Queue}
	if o.queue != nil {
		found.queue = *o.queue
	}
	found.full = a.options.Prefix + found.queue
	switch o.priority {
	case "", priorityNormal:
	case priorityHigh, priorityLow:
		if !slices.Contains(a.options.Priorities, found.queue) {
			return found, fmt.Errorf("%w: the tasks of %q have no Priority: name the queue in AppOptions.Priorities, so that workers look into "+
				"its three lists", ErrInvalidTask, found.queue)
		}
		found.full += "." + o.priority
	default:
		return found, fmt.Errorf("%w: a Priority is %s, %s or %s, not %q", ErrInvalidTask, priorityHigh, priorityNormal, priorityLow, o.priority)
	}
	o.queue, o.priority = nil, ""
	if a.options.Wire == WireUpstream {
		return found, o.refusedUpstream(path)
	}
	o.identified = true
	if o.retry != 0 && o.backoff == nil {
		pauses := Exponential(firstRetry).Capped(longestRetry)
		o.backoff = &pauses
	}
	return found, o.check()
}

// refusedUpstream says what the older packages do not know of what a task asks for.
func (o *taskOptions) refusedUpstream(path string) error {
	retry := 0
	if !strings.Contains(path, wire.Separator) {
		retry = o.retry
	}
	var w writer
	if o.headers(&w, retry, birth{}); w.count > 0 || o.at != nil || o.after != nil || o.join {
		return fmt.Errorf("%w: with WireUpstream a task has no option but Retry, and that of a Go function not even this one, as the older "+
			"packages know no other", ErrConfiguration)
	}
	return o.check()
}
