package delayed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	defaultInterval = 5 * time.Second
	defaultLimit    = 3   // losses that bury a task
	pageSize        = 100 // leases looked at in one call
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
	graveyards  map[yard]*graveyard
	sites       []*site
	rung        chan struct{} // something is due earlier than we knew
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
		deadMax: defaultLetters, deadAge: defaultAge, graveyards: map[yard]*graveyard{},
		queues: queues, interval: defaultInterval, limit: defaultLimit, settling: settle, withSignals: true, log: slog.Default(),
		name: token(), place: place(), stopping: make(chan struct{}), started: time.Now(),
		rung: make(chan struct{}, 1), checks: make(chan struct{}, 1),
	}
	for _, option := range options {
		option(s)
	}
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
// After an outage (its connection broke, or an answer took long: a restart, a failover, a stall) it repairs the notifications at once,
// and judges leases once the workers that live have had 5 seconds to say so.
func (s *Sweeper) Run(ctx context.Context) error {
	if err := s.queues[0].admitted(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.withSignals {
		defer listen(s.log, s.Stop, func() { s.Stop(); cancel() })()
	}
	s.log.Info("sweeper starts", "place", s.place, "queues", len(s.queues))
	var manager *notifier
	if s.withSignals {
		manager = newNotifier(s.log)
	}
	s.sites = sitesOf(s.queues, s.settling)
	ears, deafen := context.WithCancel(ctx)
	defer deafen()
	for _, there := range s.sites {
		go there.listen(ears, func() { tell(s.rung) }, func() { tell(s.checks) })
	}
	manager.ready("sweeping")
	for ctx.Err() == nil {
		for _, there := range s.sites {
			s.visit(ctx, there)
		}
		manager.alive()
		if !s.rest(ctx, manager) {
			break
		}
	}
	deafen()
	manager.stopping("going")
	s.goodbye(context.WithoutCancel(ctx))
	s.log.Info("sweeper stops", "place", s.place, "recovered", s.recovered, "buried", s.buried)
	return nil
}

// Sweep sweeps all queues once. It goes on with the next queue if one fails, and returns all errors.
func (s *Sweeper) Sweep(ctx context.Context) error {
	var failures []error
	for _, queue := range s.queues {
		for _, step := range []func(context.Context, *Queue) error{s.sweep, s.tellLost, repair, prune, s.register} {
			if err := step(ctx, queue); err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", queue.Name(), err))
				break
			}
		}
	}
	return errors.Join(failures...)
}

func (s *Sweeper) register(ctx context.Context, queue *Queue) error {
	names := make([]string, len(s.queues))
	for i, q := range s.queues {
		names[i] = q.Name()
	}
	about, err := encode(map[string]any{
		"kind": "sweeper", "language": "go", "place": s.place, "queues": names,
		"started": float64(s.started.UnixMicro()) / 1e6, "rss": rss(),
	}, false)
	if err != nil {
		return err
	}
	own := queue.Keys.Own(s.name)
	if _, err := queue.caller.call(ctx, "SET", own, s.name, "PX", milliseconds(3*s.interval)); err != nil {
		return err
	}
	_, err = queue.caller.call(ctx, "HSET", queue.Keys.Workers, own, string(about))
	return err
}

func (s *Sweeper) goodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	for _, there := range s.sites {
		there.close()
	}
	for _, queue := range s.queues {
		own := queue.Keys.Own(s.name)
		_, err := queue.caller.call(ctx, "HDEL", queue.Keys.Workers, own)
		if err == nil {
			_, err = queue.caller.call(ctx, "UNLINK", own)
		}
		if err != nil {
			s.log.Warn("could not strike the sweeper off the register; another will", "error", err)
			return
		}
	}
}

// sweep puts back what dead workers hold, and bounds the dead letters.
func (s *Sweeper) sweep(ctx context.Context, queue *Queue) error {
	pass := token()
	err := eachPage(ctx, queue, queue.Keys.Processing, func(dead []string) error {
		for more := true; more; {
			swept, err := queue.Sweep(ctx, dead, s.limit, pass, s.place)
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
	if err != nil {
		return err
	}
	return s.trimIfTime(ctx, queue)
}

func repair(ctx context.Context, queue *Queue) error {
	for {
		_, _, left, err := queue.Repair(ctx)
		if err != nil || left == 0 {
			return err
		}
	}
}

func prune(ctx context.Context, queue *Queue) error {
	return eachPage(ctx, queue, queue.Keys.Workers, func(dead []string) error {
		_, err := queue.Prune(ctx, dead)
		return err
	})
}

// eachPage calls act with each page of the leases named in a hash of which some have died. act checks them again.
func eachPage(ctx context.Context, queue *Queue, key string, act func([]string) error) error {
	_, clustered := queue.client.(*redis.ClusterClient)
	for cursor := "0"; ; {
		next, leases, err := queue.Page(ctx, key, cursor, pageSize)
		if err != nil {
			return err
		}
		if clustered { // upstream's leases lie in other slots, where no script of the queue can look
			leases = within(leases, queue.Keys.Queue+leasePart)
		}
		alive, err := queue.Alive(ctx, leases)
		if err == nil && alive < len(leases) {
			err = act(leases)
		}
		if err != nil || next == "0" {
			return err
		}
		cursor = next
	}
}

func within(leases []string, prefix string) []string {
	own := leases[:0]
	for _, lease := range leases {
		if strings.HasPrefix(lease, prefix) {
			own = append(own, lease)
		}
	}
	return own
}
