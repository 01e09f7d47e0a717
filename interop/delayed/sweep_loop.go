package delayed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const (
	dueInOneCall = 1000                   // tasks that one call moves from the schedule at most
	finish       = time.Second            // that a sweeper which is asked to stop goes on with what it is doing
	firingSlice  = 500 * time.Millisecond // for the schedules that are due, before other things have their turn
	doubtful     = 250 * time.Millisecond // between two looks whether a server is there, while leases cannot be judged
)

// sweepServer sweeps the queues of one server. The steps fail one by one: each is done though another is refused.
func (s *Sweeper) sweepServer(ctx context.Context, there *server) {
	if !s.attempt(ctx, there, nil, "greet", func(ctx context.Context, _ *Queue) error { return s.checkIn(ctx, there) }) {
		return
	}
	for _, queue := range there.queues {
		judge := &leaseJudge{there.suspects[queue.Name()], func(ctx context.Context) error { return s.recheck(ctx, there) }}
		for _, step := range s.steps(judge) {
			if !s.attempt(ctx, there, queue, step.name, step.do) {
				return
			}
		}
	}
}

type step struct {
	name string
	do   func(context.Context, *Queue) error
}

// steps are those of one sweep of a queue.
func (s *Sweeper) steps(judge *leaseJudge) []step {
	return []step{
		{"wake what waits for a key", func(ctx context.Context, queue *Queue) error {
			_, err := queue.store.WakeAll(ctx)
			return err
		}}, // before keys are set free here: each of those wakes one
		{"sweep", func(ctx context.Context, queue *Queue) error { return s.sweep(ctx, queue, judge) }},
		{"repair the notifications", repair},
		{"prune the register", func(ctx context.Context, queue *Queue) error { return prune(ctx, queue, judge) }},
		{"tell those who wait for lost tasks", s.notifyLost},
		{"bound the dead letters", s.trimIfTime},
	}
}

// attempt does one of several things, for a queue if there is one: whatever goes wrong, the others have their turn. It reports whether
// that makes sense: else there is no connection.
func (s *Sweeper) attempt(ctx context.Context, there *server, queue *Queue, name string, do func(context.Context, *Queue) error) bool {
	if now := time.Now(); now.Sub(s.aliveAt) > pollPause {
		s.aliveAt = now
		s.manager.Alive()
	}
	err := there.open(ctx)
	if err == nil {
		if queue != nil {
			queue = queue.over(there.conn)
		}
		err = guarded(func() error { return do(ctx, queue) })
	}
	var defect *broken
	switch {
	case err == nil:
		there.caution.heard(time.Now())
		return true
	case ctx.Err() != nil:
		there.broke()
		return false
	}
	s.log.Warn("a sweep could not do all; trying again", "what", name, "queues", there.names(), "error", err)
	switch {
	case errors.As(err, &defect):
		there.close() // there may be replies that nobody has read
	case there.conn == nil || !conn.Answered(err):
		there.broke()
		return false
	}
	return true
}

// broken is a panic, with its stack.
type broken struct {
	value any
	stack []byte
}

func (b *broken) Error() string { return fmt.Sprintf("panic: %v\n%s", b.value, b.stack) }

// guarded turns a panic, over what any program may have written, into an error.
func guarded(do func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &broken{value, debug.Stack()}
		}
	}()
	return do()
}

// waitForSweep moves what becomes due until the next sweep is, or a connection breaks; false if the sweeper is to stop.
func (s *Sweeper) waitForSweep(ctx context.Context) bool {
	feeding, stop := s.manager.Feeding()
	defer stop()
	wait := s.pause()
	pause, sweepAt := time.NewTimer(wait), time.Now().Add(wait)
	defer pause.Stop()
	due, dueAt := time.NewTimer(0), time.Now()
	defer due.Stop()
	deafUntil := time.Now()
	again := func(d time.Duration) { due.Reset(d); dueAt = time.Now().Add(d) }
	for {
		select {
		case <-feeding:
			s.manager.Alive()
		case <-pause.C:
			s.checkOversleep(sweepAt)
			return true
		case <-due.C:
			s.checkOversleep(dueAt)
			next := s.moveDue(ctx)
			if time.Now().Before(deafUntil) {
				next = min(next, pollPause)
			}
			if s.inDoubt() {
				next = min(next, doubtful)
			}
			again(next)
		case <-s.woken:
			again(0)
		case <-s.checks: // nobody says when something is due: has Redis gone?
			if deafUntil = time.Now().Add(2 * pollPause); s.connectionLost(ctx) {
				return true
			}
			again(0)
		case <-s.stopping:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// checkOversleep is called after a wait that was to end at a time.
func (s *Sweeper) checkOversleep(planned time.Time) {
	for _, there := range s.servers {
		there.checkOversleep(planned)
	}
}

// inDoubt reports whether there are leases that cannot be judged yet. Then servers are asked more often whether they are there.
func (s *Sweeper) inDoubt() bool {
	for _, there := range s.servers {
		if _, doubtful := there.pause(); doubtful {
			return true
		}
	}
	return false
}

// pause is how long to wait for the next sweep.
func (s *Sweeper) pause() time.Duration {
	failures := 0
	pause := s.interval*3/4 + rand.N(s.interval/2+1)
	for _, there := range s.servers {
		failures = max(failures, there.failures)
		if judged, doubtful := there.pause(); doubtful {
			pause = min(pause, judged)
		}
	}
	if failures > 0 {
		longest := min(firstWait<<min(failures-1, 10), longestPause)
		return min(longest/2+rand.N(longest/2), s.interval)
	}
	return pause
}

// moveDue puts what is due into its queue, and runs schedules. It returns how long it takes until there may be more to do.
func (s *Sweeper) moveDue(ctx context.Context) time.Duration {
	pause := s.interval
	note := func(next time.Duration) {
		if next >= 0 {
			pause = min(pause, next)
		}
	}
	for _, there := range s.servers {
		for _, queue := range there.queues {
			for _, step := range []step{
				{"let groups take turns", func(ctx context.Context, queue *Queue) error {
					_, err := queue.store.Feed(ctx, rdb.FewReady)
					return err
				}},
				{"move what is due", func(ctx context.Context, queue *Queue) error {
					found, err := queue.store.Due(ctx, []*rdb.Store{queue.store}, dueInOneCall)
					note(found.Pause)
					return err
				}},
				{"run schedules", func(ctx context.Context, queue *Queue) error {
					next, err := s.fireSome(ctx, queue)
					note(next)
					return err
				}},
				{"carry on workflows", func(ctx context.Context, queue *Queue) error {
					next, err := flow.Tend(ctx, queue.store, queue.adder())
					note(next)
					return err
				}},
			} {
				if there.conn == nil {
					break
				}
				if !s.attempt(ctx, there, queue, step.name, step.do) {
					signal(s.checks)
				}
			}
		}
	}
	return pause
}

// connectionLost reports whether a connection has broken.
func (s *Sweeper) connectionLost(ctx context.Context) bool {
	broken := false
	for _, there := range s.servers {
		if there.conn != nil {
			if _, err := there.conn.Call(ctx, "PING"); err != nil {
				there.broke()
			}
		}
		broken = broken || there.conn == nil
	}
	return broken
}

// signal says something to who listens to a channel of one element.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
