package delayed

import (
	"context"
	"math/rand/v2"
	"time"
)

const dueInOneCall = 1000 // tasks that one call moves from the schedule at most

// visit sweeps the queues of one server, if its leases can be judged.
func (s *Sweeper) visit(ctx context.Context, there *site) {
	for _, queue := range there.queues {
		if err := s.visitQueue(ctx, there, queue); err != nil && ctx.Err() == nil {
			s.log.Warn("the sweep failed; trying again", "queue", queue.Name(), "error", err)
			if there.conn == nil || !answered(err) {
				there.broke()
				return
			}
			there.close() // there may be replies that nobody has read
		}
	}
}

func (s *Sweeper) visitQueue(ctx context.Context, there *site, queue *Queue) error {
	if err := there.open(ctx); err != nil {
		return err
	}
	queue = queue.over(there.conn)
	asked := time.Now()
	if err := s.register(ctx, queue); err != nil && !answered(err) { // no memory: the sweep matters, the register does not
		return err
	}
	if now := time.Now(); there.failures > 0 || now.Sub(asked) > stalled {
		there.works(now)
		s.log.Info("Redis is back; leases are judged later", "queue", queue.Name(), "after", s.settling)
	}
	if !there.settled(time.Now()) {
		return repair(ctx, queue)
	}
	for _, step := range []func(context.Context, *Queue) error{wakeWaiting, s.sweep, s.tellLost, repair, prune} {
		if err := step(ctx, queue); err != nil {
			return err
		}
	}
	return nil
}

// rest moves what becomes due until the next sweep is, or a connection breaks; false if the sweeper is to stop.
func (s *Sweeper) rest(ctx context.Context, manager *notifier) bool {
	feeding, stop := manager.feeding()
	defer stop()
	pause := time.NewTimer(s.pause())
	defer pause.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	deafUntil := time.Now()
	for {
		select {
		case <-feeding:
			manager.alive()
		case <-pause.C:
			return true
		case <-due.C:
			next := s.moveDue(ctx)
			if time.Now().Before(deafUntil) {
				next = min(next, deaf)
			}
			due.Reset(next)
		case <-s.rung:
			due.Reset(0)
		case <-s.checks: // a bell cannot be heard: has Redis gone?
			if deafUntil = time.Now().Add(2 * deaf); s.lost(ctx) {
				return true
			}
			due.Reset(0)
		case <-s.stopping:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// pause is how long to wait for the next sweep.
func (s *Sweeper) pause() time.Duration {
	failures, now := 0, time.Now()
	pause := s.interval*3/4 + rand.N(s.interval/2+1)
	for _, there := range s.sites {
		failures = max(failures, there.failures)
		if !there.settled(now) {
			pause = min(pause, there.settledAt.Sub(now))
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
	for _, there := range s.sites {
		for _, queue := range there.queues {
			if there.conn == nil {
				break
			}
			next, err := s.moveDueOf(ctx, queue.over(there.conn))
			if err != nil {
				there.broke()
				s.log.Warn("cannot move what is due; trying again", "queue", queue.Name(), "error", err)
				tell(s.checks)
			} else if next >= 0 {
				pause = min(pause, next)
			}
		}
	}
	return pause
}

// moveDueOf does it for one queue. What it returns is negative if there is nothing to wait for.
func (s *Sweeper) moveDueOf(ctx context.Context, queue *Queue) (time.Duration, error) {
	if _, err := queue.feed(ctx, fewReady); err != nil {
		return -1, err
	}
	found, err := queue.Due(ctx, []*Queue{queue}, dueInOneCall)
	if err != nil {
		return -1, err
	}
	next, err := s.fireIn(ctx, queue)
	if err == nil && next >= 0 && found.Pause >= 0 {
		return min(next, found.Pause), nil
	}
	return max(next, found.Pause), err
}

// lost tells whether a connection has broken.
func (s *Sweeper) lost(ctx context.Context) bool {
	broken := false
	for _, there := range s.sites {
		if there.conn != nil {
			if _, err := there.conn.call(ctx, "PING"); err != nil {
				there.broke()
			}
		}
		broken = broken || there.conn == nil
	}
	return broken
}

// tell says something to who listens to a channel of one element.
func tell(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
