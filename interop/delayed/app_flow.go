package delayed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Flow makes a workflow of calls of the application's functions. Its home, which a sweeper has to serve, is FlowHome, or else the queue of
// tasks that name none, or, if none of its functions is in that, the first of its queues. name is what people call it.
func (a *App) Flow(name string, options ...FlowOption) *Flow {
	var o flowOptions
	for _, option := range options {
		option(&o)
	}
	home := a.usualHome()
	if o.home != nil {
		home = *o.home
	}
	queue, err := a.Queue(home)
	return a.flowIn(queue, err, name, options)
}

// usualHome is the queue with the keys of workflows that say nothing else.
func (a *App) usualHome() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	names := slices.Concat(a.options.Queues, a.served, a.declared)
	if len(names) == 0 || slices.Contains(names, a.options.Queue) {
		return a.options.Queue
	}
	return names[0]
}

// flowIn makes a workflow with this home, if there is no error.
func (a *App) flowIn(home *Queue, err error, name string, options []FlowOption) *Flow {
	f := NewFlow(home, name, options...)
	f.app = a
	f.fail(err)
	if a.options.Wire == WireUpstream {
		f.fail(fmt.Errorf("%w: with WireUpstream there are no workflows, as the older packages know none", ErrConfiguration))
	}
	return f
}

// SubmitFlow starts a workflow that is one part, such as a chain. Its home is FlowHome, or else the queue of the first call.
func (a *App) SubmitFlow(ctx context.Context, part Part, options ...FlowOption) (*Run, error) {
	var o flowOptions
	for _, option := range options {
		option(&o)
	}
	var f *Flow
	if first, some := firstCall(part); some && o.home == nil {
		_, full, err := a.taskOf(first, nil, nil)
		if err != nil {
			return nil, err
		}
		queue, err := a.queueNamed(full)
		f = a.flowIn(queue, err, "", options)
	} else {
		f = a.Flow("", options...)
	}
	f.Add(part)
	return f.Submit(ctx)
}

// firstCall is the first call in a part.
func firstCall(p Part) (Call, bool) {
	switch p := p.(type) {
	case Call:
		return p, true
	case on:
		return firstCall(p.part)
	case linked:
		return firstCall(p.part)
	case Parts:
		for _, each := range p.parts {
			if found, some := firstCall(each); some {
				return found, true
			}
		}
	}
	return Call{}, false
}

// Run is the handle of a workflow that was submitted somewhere else, by its id or that of one of its nodes. The error wraps ErrUnknownTask
// if none of the application's queues is its home.
func (a *App) Run(ctx context.Context, id string) (*Run, error) {
	queues, err := a.all()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(queues))
	for i, queue := range queues {
		names[i] = queue.Name()
		run, err := queue.Run(id)
		if err != nil {
			return nil, err
		}
		switch _, err = run.Status(ctx); {
		case err == nil:
			return run, nil
		case !errors.Is(err, ErrUnknownTask):
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: no workflow %s is known in %s", ErrUnknownTask, id, strings.Join(names, ", "))
}

// AddToFlow is the package's AddToFlow for calls of the application's functions.
func (a *App) AddToFlow(ctx context.Context, part Part, name string) (bool, error) {
	return addToFlow(ctx, a, part, name)
}
