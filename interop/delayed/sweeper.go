package delayed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/system"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	defaultInterval = 5 * time.Second
	shortestOwnTTL  = 10 * time.Second // of the sweeper's own lease, however often it sweeps
	defaultLimit    = 3                // losses that bury a task
	pageSize        = 100              // leases looked at in one call
	mostRepairs     = 1000             // in one sweep: who adds tasks meanwhile cannot keep it busy for ever
)

// Sweeper puts the tasks of dead workers back, repairs notifications, strikes dead workers off the register, moves what is due, fires
// schedules, and bounds the dead letters. Any number of them, in any language, may work side by side, and each may be killed at any
// point.
type Sweeper struct {
	queues      []*Queue
	interval    time.Duration
	limit       int
	deadMax     int           // dead letters that a queue keeps; 0 for all
	deadAge     time.Duration // that it keeps them; 0 for ever
	settling    time.Duration
	withSignals bool
	log         *slog.Logger
	name        string // the token of its own lease
	place       string
	started     time.Time
	recovered   int
	buried      int
	retentions  map[letterKey]*retention
	unfired     map[letterKey][]string  // schedules that were due, and had no turn yet
	servedAt    map[letterKey]time.Time // when queues were registered as served
	servers     []*server
	manager     *system.ServiceManager
	running     atomic.Bool
	aliveAt     time.Time     // when the service manager was told last that we live
	woken       chan struct{} // something is due earlier than we knew
	checks      chan struct{} // a connection may have broken
	stopping    chan struct{}
	stop        sync.Once
}

// SweeperOption changes a Sweeper.
type SweeperOption func(*Sweeper)

// SweepInterval says how long a sweeper waits between two sweeps, with some jitter: 5 s by default.
func SweepInterval(d time.Duration) SweeperOption { return func(s *Sweeper) { s.interval = d } }

// LostLimit says which loss buries a task: the third by default.
func LostLimit(n int) SweeperOption { return func(s *Sweeper) { s.limit = n } }

// SweeperNoSignals leaves the process's signals alone, and tells the service manager nothing.
func SweeperNoSignals() SweeperOption { return func(s *Sweeper) { s.withSignals = false } }

// SweeperLogger says where to log: slog.Default() by default.
func SweeperLogger(log *slog.Logger) SweeperOption { return func(s *Sweeper) { s.log = log } }

// NewSweeper makes a sweeper for queues. The error wraps ErrConfiguration.
func NewSweeper(queues []*Queue, options ...SweeperOption) (*Sweeper, error) {
	s := &Sweeper{
		deadMax: defaultLetters, deadAge: defaultAge, retentions: map[letterKey]*retention{}, unfired: map[letterKey][]string{},
		servedAt: map[letterKey]time.Time{},
		queues:   queues, interval: defaultInterval, limit: defaultLimit, settling: settle, withSignals: true, log: slog.Default(),
		name: rdb.Token(), place: place(), stopping: make(chan struct{}), started: time.Now(),
		woken: make(chan struct{}, 1), checks: make(chan struct{}, 1),
	}
	for _, option := range options {
		option(s)
	}
	s.log = steadily(s.log)
	if len(queues) == 0 || s.interval <= 0 || s.limit < 1 {
		return nil, fmt.Errorf("%w: a sweeper needs queues, an interval above 0, and a limit of at least 1", ErrConfiguration)
	}
	if s.deadMax < 0 || s.deadAge < 0 {
		return nil, fmt.Errorf("%w: DeadMax and DeadAge are above 0, or 0 for no bound", ErrConfiguration)
	}
	return s, nil
}

// Stop lets Run return. It is safe from any goroutine, at any time, twice.
func (s *Sweeper) Stop() { s.stop.Do(func() { close(s.stopping) }) }

// Run sweeps at once and then at intervals, until ctx is done, Stop is called, or TERM, INT, HUP or QUIT comes; in between it moves
// what is due to the queues, and fires schedules. Faults of Redis are logged, and it tries again.
//
// After an outage (its connection broke, or an answer took much longer than usual: a restart, a failover, a stall; or the server's
// clock was set forward) it repairs the notifications at once, and judges leases once the workers that live have had 5 seconds to say
// so. A lease that was dead before and after so many seconds is dead, however often there is another outage in between. Run can be called
// once.
func (s *Sweeper) Run(ctx context.Context) error {
	if s.running.Swap(true) {
		return fmt.Errorf("%w: Run is called once", ErrConfiguration)
	}
	if err := s.queues[0].admitted(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.withSignals {
		defer system.HandleSignals(s.log, s.Stop, func() { s.Stop(); cancel() })()
	}
	s.log.Info("sweeper starts", "place", s.place, "queues", len(s.queues))
	if s.withSignals {
		s.manager = system.NewServiceManager(s.log)
	}
	s.servers = serversOf(s.queues, s.settling)
	s.work(ctx)
	s.manager.Stopping("going")
	s.goodbye(context.WithoutCancel(ctx))
	s.log.Info("sweeper stops", "place", s.place, "recovered", s.recovered, "buried", s.buried)
	return nil
}

// work sweeps until the sweeper is stopped.
func (s *Sweeper) work(ctx context.Context) {
	var helpers sync.WaitGroup
	defer helpers.Wait()
	work, halt := context.WithCancel(ctx)
	defer halt()
	for _, there := range s.servers {
		helpers.Go(func() { there.listen(work, func() { signal(s.woken) }, func() { signal(s.checks) }) })
	}
	helpers.Go(func() { s.haltSoon(work, halt) })
	s.manager.Ready("sweeping")
	for work.Err() == nil {
		for _, there := range s.servers {
			s.sweepServer(work, there)
		}
		if !s.waitForSweep(work) {
			return
		}
	}
}

// haltSoon ends what is under way a second after Stop: each command leaves all in order.
func (s *Sweeper) haltSoon(work context.Context, halt func()) {
	select {
	case <-s.stopping:
	case <-work.Done():
		return
	}
	select {
	case <-time.After(finish):
		halt()
	case <-work.Done():
	}
}

// Sweep sweeps all queues once. What fails keeps nothing else from being done; it returns all errors.
func (s *Sweeper) Sweep(ctx context.Context) error {
	var failures []error
	for _, queue := range s.queues {
		for _, step := range append(s.steps(&leaseJudge{}), step{"carry on workflows", tend}, step{"register", s.register}) {
			if err := guarded(func() error { return step.do(ctx, queue) }); err != nil {
				failures = append(failures, fmt.Errorf("%s: cannot %s: %w", queue.Name(), step.name, err))
			}
		}
	}
	return errors.Join(failures...)
}

// tend does what is to be done by now for the workflows of a queue.
func tend(ctx context.Context, queue *Queue) error {
	_, err := flow.Tend(ctx, queue.store, queue.adder())
	return err
}

func (s *Sweeper) register(ctx context.Context, queue *Queue) error {
	names := make([]string, len(s.queues))
	for i, q := range s.queues {
		names[i] = q.Name()
	}
	about, err := wire.Encode(map[string]any{
		"kind": "sweeper", "language": "go", "place": s.place, "queues": names,
		"started": float64(s.started.UnixMicro()) / 1e6, "rss": rss(),
	}, false)
	if err != nil {
		return err
	}
	own := queue.store.Keys.Own(s.name)
	lives := []string{"SET", own, s.name, "PX", rdb.Milliseconds(s.ownTTL())}
	isHere := []string{"HSET", queue.store.Keys.Workers, own, string(about)}
	if c, ours := queue.store.Caller.(*conn.Conn); ours { // in one round trip
		_, err = c.Exchange(conn.AppendCommand(conn.AppendCommand(nil, lives...), isHere...), 2)
	} else if _, err = queue.store.Caller.Call(ctx, lives...); err == nil {
		_, err = queue.store.Caller.Call(ctx, isHere...)
	}
	if err != nil {
		return err
	}
	return s.serve(ctx, queue)
}

// serve registers the queue as served, now and then.
func (s *Sweeper) serve(ctx context.Context, queue *Queue) error {
	this := letterKey{queue.store.Client, queue.Name()}
	if time.Since(s.servedAt[this]) < rdb.ServeAgain {
		return nil
	}
	s.servedAt[this] = time.Now()
	if err := queue.store.Serve(ctx); err != nil && !conn.Answered(err) { // rules (ACL) may forbid it
		return err
	}
	return nil
}

// ownTTL is how long the sweeper's own lease lives after each sweep.
func (s *Sweeper) ownTTL() time.Duration { return max(3*s.interval, shortestOwnTTL) }

func (s *Sweeper) goodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, conn.Deadline)
	defer cancel()
	for _, there := range s.servers {
		there.close()
	}
	for _, queue := range s.queues {
		own := queue.store.Keys.Own(s.name)
		_, err := queue.store.Caller.Call(ctx, "HDEL", queue.store.Keys.Workers, own)
		if err == nil {
			_, err = queue.store.Caller.Call(ctx, "UNLINK", own)
		}
		if err != nil {
			s.log.Warn("could not strike the sweeper off the register; another will", "error", err)
			return
		}
	}
}

// sweep puts back what dead workers hold.
func (s *Sweeper) sweep(ctx context.Context, queue *Queue, judge *leaseJudge) error {
	pass := rdb.Token()
	return judge.eachPage(ctx, queue, queue.store.Keys.Processing, func(dead []string) error {
		for more := true; more; {
			swept, err := queue.store.Sweep(ctx, dead, s.limit, pass, s.place)
			if err != nil {
				return err
			}
			more = swept.More
			s.recovered += swept.Recovered
			s.buried += swept.Buried
			if swept.Recovered+swept.Buried > 0 {
				s.log.Warn("swept", "queue", queue.Name(), "recovered", swept.Recovered, "buried", swept.Buried)
			}
		}
		return nil
	})
}

func repair(ctx context.Context, queue *Queue) error {
	for range mostRepairs {
		_, _, left, err := queue.store.Repair(ctx)
		if err != nil || left == 0 {
			return err
		}
	}
	return nil
}

func prune(ctx context.Context, queue *Queue, judge *leaseJudge) error {
	return judge.eachPage(ctx, queue, queue.store.Keys.Workers, func(dead []string) error {
		_, err := queue.store.Prune(ctx, dead)
		return err
	})
}
