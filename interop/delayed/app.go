package delayed

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/delayedq/delayed/interop/internal/connect"
	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/redis/go-redis/v9"
)

// Wire says what the tasks of an App look like on Redis.
type Wire string

// The wires.
const (
	WireDelayed  Wire = "delayed"  // each task has an id
	WireUpstream Wire = "upstream" // byte for byte those of the older packages, which may serve the same queues
)

const defaultQueue = "default"

// AppOptions are what an App may have; the zero value will do.
type AppOptions struct {
	Queue         string   // where tasks go that name no queue; empty for "default"
	Queues        []string // queues that workers serve before those of the functions, in this order
	Priorities    []string // queues whose tasks may have a Priority: each has three lists, and workers look into all of them
	Prefix        string   // what the names of all queues begin with, for several applications on one Redis
	Wire          Wire     // empty for WireDelayed
	QueueOptions  []QueueOption
	WorkerOptions []WorkerOption // of each Worker, such as Around, OnStart and OnStop
}

// App is an application: its functions, its queues, and what their tasks ask for. It is safe for use by many goroutines.
type App struct {
	options AppOptions
	client  redis.UniversalClient
	own     bool // the client is closed with it

	mu        sync.Mutex
	functions map[string]*appFunction
	paths     map[string]string // by which functions are registered that are given as such; empty for one that has several
	served    []string          // queues of its functions, in the order in which they came
	declared  []string          // likewise, of functions that others run
	queues    map[string]*Queue // by their names on Redis
}

// appFunction is what an App knows of a function.
type appFunction struct {
	handler *handler // nil if others run it
	options []TaskOption
	asked   appTask // what its tasks ask for if nothing else is said
}

// NewApp makes an application on a Redis: a URL as for Connect, or a client of go-redis, which stays the caller's. For nil or an empty
// URL the environment says where it is: the URL in the file that DELAYED_REDIS_URL_FILE names, DELAYED_REDIS_URL, REDIS_URL, or else it is
// localhost. Nothing connects before the first command. The error wraps ErrConfiguration.
func NewApp(where any, options AppOptions) (*App, error) {
	options.Queue, options.Wire = cmp.Or(options.Queue, defaultQueue), cmp.Or(options.Wire, WireDelayed)
	if options.Wire != WireDelayed && options.Wire != WireUpstream {
		return nil, fmt.Errorf("%w: Wire is %q or %q, not %q", ErrConfiguration, WireDelayed, WireUpstream, options.Wire)
	}
	client, own, err := clientOf(where)
	if err != nil {
		return nil, err
	}
	a := &App{options: options, client: client, own: own, functions: map[string]*appFunction{}, paths: map[string]string{},
		queues: map[string]*Queue{}}
	for _, name := range slices.Concat([]string{options.Queue}, options.Queues, options.Priorities) {
		if _, err := NewQueue(options.Prefix+name, client, options.QueueOptions...); err != nil {
			a.Close() //nolint:errcheck // the other error says more
			return nil, err
		}
	}
	return a, nil
}

// clientOf is the client for what NewApp takes, and whether it was made here.
func clientOf(where any) (client redis.UniversalClient, own bool, err error) {
	switch where := where.(type) {
	case redis.UniversalClient:
		return where, false, nil
	case nil:
		return clientOf("")
	case string:
		if where == "" {
			if where, err = connect.URLOfEnvironment(); err != nil {
				return nil, false, err
			}
		}
		client, err = Connect(where)
		return client, true, err
	}
	return nil, false, fmt.Errorf("%w: an App takes the URL of Redis or a client of go-redis, not %T", ErrConfiguration, where)
}

// Close closes the client, if NewApp has made it.
func (a *App) Close() error {
	if !a.own {
		return nil
	}
	return a.client.Close()
}

// Handle registers a function under its own path, as Worker.Register does, with what its tasks ask for if Submit says nothing else:
// OnQueue, Priority, Retry, Timeout and so on. With Retry and without Backoff the pauses grow from a second to ten minutes, with jitter.
// Functions are registered before Worker is called. The error wraps ErrConfiguration or ErrInvalidTask.
func (a *App) Handle(function any, options ...TaskOption) error {
	path, err := ownPath(function)
	if err != nil {
		return err
	}
	return a.HandleAs(path, function, options...)
}

// HandleAs is Handle with another path.
func (a *App) HandleAs(path string, function any, options ...TaskOption) error {
	h, err := newHandler(path, function)
	if err != nil {
		return err
	}
	if strings.Contains(path, wire.Separator) {
		return fmt.Errorf("%w: %q is the path of a Python function: leave the colon out", ErrConfiguration, path)
	}
	if err := a.register(path, h, options); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	name := pathOf(function)
	if other, known := a.paths[name]; known && other != path { // closures share a name
		path = ""
	}
	a.paths[name] = path
	return nil
}

// Declare says what tasks of a function ask for that the workers of other applications run: Python's (`module.path:function`), or Go's.
func (a *App) Declare(path string, options ...TaskOption) error {
	return a.register(path, nil, options)
}

func (a *App) register(path string, h *handler, options []TaskOption) error {
	if path == "" {
		return fmt.Errorf("%w: a function needs a path", ErrConfiguration)
	}
	asked, err := a.asked(path, options)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.functions[path] != nil {
		return fmt.Errorf("%w: %s is registered or declared already", ErrConfiguration, path)
	}
	a.functions[path] = &appFunction{handler: h, options: slices.Clone(options), asked: asked}
	names := &a.served
	if h == nil {
		names = &a.declared
	}
	if !slices.Contains(*names, asked.queue) {
		*names = append(*names, asked.queue)
	}
	return nil
}

// Queue is the queue of this name, to which the prefix is added; empty for that of tasks which name none. With a priority it is
// "mail.high" or "mail.low". The error wraps ErrConfiguration.
func (a *App) Queue(name string) (*Queue, error) {
	return a.queueNamed(a.options.Prefix + cmp.Or(name, a.options.Queue))
}

// queueNamed is the queue of this name on Redis.
func (a *App) queueNamed(full string) (*Queue, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if queue := a.queues[full]; queue != nil {
		return queue, nil
	}
	queue, err := NewQueue(full, a.client, a.options.QueueOptions...)
	if err == nil {
		a.queues[full] = queue
	}
	return queue, err
}

// bands are the names on Redis of some queues, each with those for its priorities.
func (a *App) bands(names ...string) []string {
	var found []string
	add := func(full string) {
		if !slices.Contains(found, full) {
			found = append(found, full)
		}
	}
	for _, name := range names {
		full := a.options.Prefix + name
		if slices.Contains(a.options.Priorities, name) {
			add(full + "." + priorityHigh)
			add(full)
			add(full + "." + priorityLow)
			continue
		}
		add(full)
	}
	return found
}

// Worker makes a worker that serves the queues of the application's functions, in the order of AppOptions.Queues and then in that in
// which the functions were registered, and runs exactly these functions. The error wraps ErrConfiguration.
func (a *App) Worker(options ...WorkerOption) (*Worker, error) {
	handlers, names, err := a.ofWorkers()
	if err != nil {
		return nil, err
	}
	queues, err := a.named(a.bands(names...))
	if err != nil {
		return nil, err
	}
	w, err := NewWorker(queues, slices.Concat(a.options.WorkerOptions, options)...)
	if err == nil {
		w.handlers = handlers
	}
	return w, err
}

// ofWorkers are the functions that workers run, and the queues that they serve.
func (a *App) ofWorkers() (map[string]*handler, []string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	handlers := map[string]*handler{}
	names := slices.Concat(a.options.Queues, a.served)
	for path, function := range a.functions {
		switch {
		case function.handler != nil:
			handlers[path] = function.handler
		case strings.Contains(path, wire.Separator) && slices.Contains(names, function.asked.queue):
			return nil, nil, fmt.Errorf("%w: %s is a Python function, and its queue %q is for Go workers: declare it with OnQueue of another",
				ErrConfiguration, path, function.asked.queue)
		}
	}
	if len(handlers) == 0 {
		return nil, nil, fmt.Errorf("%w: the application has no functions to run: register them with Handle", ErrConfiguration)
	}
	return handlers, names, nil
}

// Sweeper makes a sweeper for all queues of the application that are known by now: those of workers, of declared functions, with
// priorities, and where tasks were submitted. The error wraps ErrConfiguration.
func (a *App) Sweeper(options ...SweeperOption) (*Sweeper, error) {
	queues, err := a.all()
	if err != nil {
		return nil, err
	}
	return NewSweeper(queues, options...)
}

// all are the queues of the application that are known by now.
func (a *App) all() ([]*Queue, error) {
	a.mu.Lock()
	names := a.bands(slices.Concat(a.options.Queues, a.served, a.declared, a.options.Priorities)...)
	for full := range a.queues {
		if !slices.Contains(names, full) {
			names = append(names, full)
		}
	}
	a.mu.Unlock()
	if len(names) == 0 {
		names = a.bands(a.options.Queue)
	}
	return a.named(names)
}

// named are the queues of these names on Redis.
func (a *App) named(names []string) ([]*Queue, error) {
	queues := make([]*Queue, len(names))
	for i, full := range names {
		queue, err := a.queueNamed(full)
		if err != nil {
			return nil, err
		}
		queues[i] = queue
	}
	return queues, nil
}
