package delayed

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/clock"
	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/system"
	"github.com/delayedq/delayed/interop/internal/tally"
)

const (
	defaultBeat  = 3 * time.Second
	defaultTTL   = 10 * time.Second
	defaultGrace = 25 * time.Second
	exitForced   = 3 // the grace was over, or a second signal came: what ran was given back
	lastWords    = 10 * time.Second
)

// Worker runs the Go tasks of one or several queues, several at a time in one process. One goroutine fetches (fetcher.go), one beats
// (heartbeat.go), and one for each slot runs tasks (runner.go); what several of them use is atomic, a channel, or has a lock.
type Worker struct {
	// Set by NewWorker and Register, and by nobody any more when Run has begun.
	queues      []*Queue      // in order of priority
	pools       []*lease.Pool // one for each
	recorders   []*recorder   // likewise: of their histories
	slots       []*slot
	handlers    map[string]*handler
	middlewares []Middleware
	onStart     []func(context.Context) error
	onStop      []func()
	ttl         time.Duration
	beat        time.Duration
	grace       time.Duration
	burst       bool
	withSignals bool
	log         *slog.Logger
	tasks       *taskLog               // what it says of tasks that succeed
	manager     *system.ServiceManager // nil with NoSignals: then the process is not ours
	exit        func(int)
	resultSize  int // bytes that a result may have
	unreadyFor  time.Duration
	lastWords   time.Duration // from when it is certain that the process leaves until it has left, whatever happens
	name        string        // the token of its own lease, and the value of all its leases
	place       string        // host:pid
	started     time.Time     // set by Run, before the goroutines begin

	fetcher *fetcher
	unready unreadyTasks

	// Between the fetcher and the slots.
	buffer   chan *lease.Lease // taken and not begun
	buffered atomic.Int64      // tasks that went into the buffer, less those that were taken out unbegun
	finished atomic.Int64      // tasks that ended, well or not
	low      atomic.Int64      // the fetcher wants to know, by room, when no more than these are in the buffer or run
	room     chan struct{}
	acks     *conn.AckPair // over which leases are ended
	stumbled atomic.Bool   // tasks waited behind slow ones: take none ahead
	broken   atomic.Bool   // a connection broke: begin anew

	// Written by the heartbeat, read by all.
	beaten   atomic.Int64 // nanoseconds from started to when all leases lived for certain
	clock    clock.Server
	began    chan struct{} // closed when the first beat has been tried
	watching chan struct{} // to the heartbeat: there are tasks in the buffer while all slots run
	rounds   atomic.Int64  // of the fetcher, by which the heartbeat sees that it is not stuck

	failed, buried, superseded, retried atomic.Int64
	setAside                            atomic.Int64 // tasks that were postponed or cancelled, or had been lost when they should begin

	tallies  []*tally.Counter // of each queue: how tasks ended since the last beat
	carriers carriers         // of the workflows of which nodes end here

	// How it ends.
	running  atomic.Bool // Run has been called
	stopping chan struct{}
	stop     sync.Once
	forced   atomic.Bool   // a task was ended that still runs, so that the process must leave
	now      chan struct{} // closed when nothing may be waited for
	stopOnce sync.Once
	watchdog atomic.Pointer[time.Timer] // ends the process if it does not leave in time
	guarded  sync.Once
}

// NewWorker makes a worker for queues on the same Redis, in order of priority: a later one is served when the earlier ones are
// empty. The error wraps ErrConfiguration.
func NewWorker(queues []*Queue, options ...WorkerOption) (*Worker, error) {
	w := &Worker{
		queues:      queues,
		slots:       make([]*slot, 1),
		handlers:    map[string]*handler{},
		ttl:         defaultTTL,
		beat:        defaultBeat,
		grace:       defaultGrace,
		withSignals: true,
		log:         slog.Default(),
		exit:        os.Exit,
		resultSize:  maxResultSize,
		unreadyFor:  defaultUnready,
		lastWords:   lastWords,
		name:        rdb.Token(),
		place:       place(),
		carriers:    carriers{slice: carrying},
		room:        make(chan struct{}, 1),
		watching:    make(chan struct{}, 1),
		began:       make(chan struct{}),
		stopping:    make(chan struct{}),
		now:         make(chan struct{}),
	}
	for _, option := range options {
		option(w)
	}
	w.log = steadily(w.log)
	w.tasks = newTaskLog(w.log)
	if err := w.check(); err != nil {
		return nil, err
	}
	w.assemble()
	return w, nil
}

// assemble makes what the options are for.
func (w *Worker) assemble() {
	w.fetcher = &fetcher{Worker: w}
	if w.withSignals {
		w.manager = system.NewServiceManager(w.log)
	}
	w.acks = conn.NewAckPair(w.lives, w.connectionBroke)
	for i := range w.slots {
		w.slots[i] = &slot{}
	}
	for i, queue := range w.queues {
		w.pools = append(w.pools, lease.NewPool(queue.store, i, w.wasSuperseded))
		w.tallies = append(w.tallies, &tally.Counter{})
		w.recorders = append(w.recorders, newRecorder(queue.store, w.place))
	}
	w.buffer = make(chan *lease.Lease, 2*(lease.FarAhead+len(w.slots)))
}

// Register makes a function runnable under its own path, `package/path.Function`: see RegisterAs. The error wraps ErrConfiguration if it
// has no name of its own.
func (w *Worker) Register(function any) error {
	path, err := ownPath(function)
	if err != nil {
		return err
	}
	return w.RegisterAs(path, function)
}

// RegisterAs makes a function runnable under the given path. Its parameters take the task's arguments; the first one may be a
// context.Context, which ends when the worker gives the task up, at the task's Timeout, and when somebody cancels the task. If one of
// its results is an error that is not nil, the task has failed, as it has if the function panics; the other result (or the array of
// others) is what a task with ResultTTL gives. Call it before Run. The error wraps ErrConfiguration: it is no function, or takes what no
// task can have.
func (w *Worker) RegisterAs(path string, function any) error {
	h, err := newHandler(path, function)
	if err == nil && path == "" {
		err = fmt.Errorf("%w: a function needs a path", ErrConfiguration)
	}
	if err == nil && w.running.Load() {
		err = fmt.Errorf("%w: functions are registered before Run", ErrConfiguration)
	}
	if err == nil {
		w.handlers[path] = h
	}
	return err
}

// Stop lets Run finish what runs, give back the rest and return. It is safe from any goroutine, at any time, twice.
func (w *Worker) Stop() {
	w.stop.Do(func() {
		close(w.stopping)
		w.fetcher.wakeFetcher()
		w.manager.Stopping("finishing what runs")
	})
}

func (w *Worker) stopped() bool {
	select {
	case <-w.stopping:
		return true
	default:
		return false
	}
}

// stopNow lets Run return at once.
func (w *Worker) stopNow() {
	w.stopOnce.Do(func() { close(w.now) })
	w.watch()
	w.Stop()
}

// watch makes sure that the process leaves soon, whatever its goodbye waits for. The leases then run out by themselves.
func (w *Worker) watch() {
	if !w.withSignals { // the process is not ours
		return
	}
	w.guarded.Do(func() {
		w.watchdog.Store(time.AfterFunc(w.lastWords, func() {
			w.log.Error("could not leave in order; a sweeper will give back what was held")
			w.exit(exitForced)
		}))
	})
}

// Run works until ctx is done, Stop is called, a signal comes or (with Burst) the queues are empty. It can be called once.
//
// TERM, INT and HUP stop it as Stop does. If tasks still run when the grace is over, or at once at a second TERM or INT or at QUIT,
// they are given back, and the process exits with status 3; with NoSignals, Run returns ErrForced instead. So it is when a task is over
// its HardTimeout, or runs on although it was cancelled by CancelHard: as a goroutine cannot be ended from outside, that task is ended
// in Redis, and all others are given back. A goodbye that lasts for longer than 10 s (Redis does not answer) ends likewise, with status
// 3: the leases then run out by themselves. USR1 logs the stacks of all goroutines. A service manager (NOTIFY_SOCKET, as systemd's
// Type=notify sets it) hears when the worker is ready, stops, and lives. If Redis or Sentinel does not let us in, the error wraps
// ErrConfiguration; one that is away may come back.
func (w *Worker) Run(ctx context.Context) error {
	if w.running.Swap(true) {
		return fmt.Errorf("%w: Run is called once", ErrConfiguration)
	}
	if err := w.queues[0].admitted(ctx); err != nil {
		return err
	}
	for _, begin := range w.onStart {
		if err := begin(ctx); err != nil {
			return fmt.Errorf("delayed: OnStart: %w", err)
		}
	}
	w.started = time.Now()
	if w.withSignals {
		system.WarnOfOrphans(w.log, os.Getpid())
		defer system.HandleSignals(w.log, w.Stop, w.stopNow)()
	}
	defer context.AfterFunc(ctx, w.Stop)()
	if w.work(ctx) {
		if dog := w.watchdog.Load(); dog != nil {
			dog.Stop()
		}
		for _, end := range slices.Backward(w.onStop) {
			end()
		}
		return nil
	}
	if w.withSignals {
		w.exit(exitForced)
	}
	return ErrForced
}

// work works until the worker is stopped, and leaves nothing behind; false if tasks still ran, and were given back.
func (w *Worker) work(ctx context.Context) (done bool) {
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // a task is not given up because its worker is asked to stop
	defer end()
	heart, endHeart := context.WithCancel(life)
	beats := background(func() { (&heartbeat{Worker: w}).run(heart) })
	w.log.Info("worker starts", "place", w.place, "queues", w.queueNames(), "concurrency", len(w.slots))
	for _, s := range w.slots {
		go w.serve(life, s)
	}
	<-background(w.fetcher.run)
	w.Stop()
	done = w.finish()
	w.watch()
	endHeart()
	<-beats
	w.goodbye()
	for _, r := range w.recorders {
		r.write()
	}
	w.tasks.flush()
	end() // only now, or tasks that give up at once would fail rather than go back
	w.log.Info("worker stops", "place", w.place, "succeeded", w.succeeded(), "retried", w.retried.Load(), "failed", w.failed.Load(),
		"buried", w.buried.Load(), "superseded", w.superseded.Load())
	close(w.buffer)
	written(w.log)
	return done
}

// lives reports whether all leases live for certain, so that nobody can have swept what they hold.
func (w *Worker) lives(at time.Time) bool {
	return at.Sub(w.started)-time.Duration(w.beaten.Load()) < w.ttl/2
}

func (w *Worker) inFlight() int64 { return w.buffered.Load() - w.finished.Load() }

func (w *Worker) succeeded() int64 {
	return w.finished.Load() - w.failed.Load() - w.buried.Load() - w.retried.Load() - w.setAside.Load()
}

func (w *Worker) queueOf(pool *lease.Pool) *Queue { return w.queues[pool.Index] }

func (w *Worker) queueNames() []string {
	names := make([]string, len(w.queues))
	for i, queue := range w.queues {
		names[i] = queue.Name()
	}
	return names
}

// background runs f in a goroutine; the channel is closed when it has returned.
func background(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

func place() string { return rdb.Place() }
