package delayed

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// WorkerOption changes a Worker.
type WorkerOption func(*Worker)

// Concurrency says how many tasks run at a time, each in its goroutine and under its lease: 1 by default.
func Concurrency(n int) WorkerOption { return func(w *Worker) { w.slots = make([]*slot, max(n, 0)) } }

// TTL says how long the leases live after a beat: 10 s by default. After that, tasks of a dead worker are taken from it.
func TTL(d time.Duration) WorkerOption { return func(w *Worker) { w.ttl = d } }

// Beat says how often the leases are kept alive: every 3 s by default. The TTL is at least twice as long.
func Beat(d time.Duration) WorkerOption { return func(w *Worker) { w.beat = d } }

// Grace says how long a stopped worker may go on with what runs: 25 s by default.
func Grace(d time.Duration) WorkerOption { return func(w *Worker) { w.grace = d } }

// Burst makes Run return when all queues are empty.
func Burst() WorkerOption { return func(w *Worker) { w.burst = true } }

// NoSignals leaves the process's signals alone, never ends the process, and tells the service manager nothing.
func NoSignals() WorkerOption { return func(w *Worker) { w.withSignals = false } }

// Logger says where to log: slog.Default() by default.
func Logger(log *slog.Logger) WorkerOption { return func(w *Worker) { w.log = log } }

// OnStart is called by Run before the first task; an error that it returns is that of Run.
func OnStart(f func(ctx context.Context) error) WorkerOption {
	return func(w *Worker) { w.onStart = append(w.onStart, f) }
}

// OnStop is called by Run when the last task has ended, unless tasks still run then: the last one first.
func OnStop(f func()) WorkerOption { return func(w *Worker) { w.onStop = append(w.onStop, f) } }

// Middleware is around each execution: it calls next, with the context that it got or one made of that, and returns its error or
// another. Without a call of next the function does not run, and the task ends by what the middleware returns.
type Middleware func(ctx context.Context, next func(context.Context) error) error

// Around puts middlewares around each task; the first is outermost.
func Around(middlewares ...Middleware) WorkerOption {
	return func(w *Worker) { w.middlewares = append(w.middlewares, middlewares...) }
}

// runAround runs a function within middlewares.
func runAround(ctx context.Context, middlewares []Middleware, run func(context.Context) error) error {
	for _, middleware := range slices.Backward(middlewares) {
		inner := run
		run = func(ctx context.Context) error { return middleware(ctx, inner) }
	}
	return run(ctx)
}

// check says what is wrong with the options; nil if they are in order.
func (w *Worker) check() error {
	switch {
	case len(w.queues) == 0:
		return fmt.Errorf("%w: a worker needs at least one queue", ErrConfiguration)
	case len(w.slots) == 0:
		return fmt.Errorf("%w: Concurrency is above 0", ErrConfiguration)
	case w.unreadyFor < 0:
		return fmt.Errorf("%w: UnreadyFor is not below 0: %s", ErrConfiguration, w.unreadyFor)
	case w.beat <= 0 || w.grace < 0 || w.beat > w.ttl/2:
		return fmt.Errorf("%w: Beat is above 0, TTL at least twice as long, and Grace not below 0", ErrConfiguration)
	}
	client := w.queues[0].store.Client
	for _, queue := range w.queues {
		if queue.store.Client != client {
			return fmt.Errorf("%w: all queues of a worker use one client", ErrConfiguration)
		}
	}
	if _, clustered := client.(*redis.ClusterClient); clustered && len(w.queues) > 1 {
		return fmt.Errorf("%w: on Redis Cluster a worker serves one queue, as the slots of others may lie elsewhere", ErrConfiguration)
	}
	return nil
}
