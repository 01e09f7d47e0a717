package delayed

import (
	"context"
	"math/rand/v2"
	"time"
)

// plan fires the schedules of one server's queues until ctx ends, over a connection of its own: so a schedule that catches up with many
// occurrences holds no sweep up, and one that cannot be run breaks nothing else. rung says that something is due earlier than we knew.
func (s *Sweeper) plan(ctx context.Context, there *site, rung <-chan struct{}) {
	own := &site{queues: there.queues}
	defer own.close()
	for ctx.Err() == nil {
		pause := time.NewTimer(s.fireAll(ctx, own))
		select {
		case <-pause.C:
		case <-rung:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// fireAll runs the schedules that are due. It returns how long it takes until there may be more.
func (s *Sweeper) fireAll(ctx context.Context, own *site) time.Duration {
	pause := s.interval
	for _, queue := range own.queues {
		next, err := time.Duration(-1), own.open(ctx)
		if err == nil {
			next, err = s.fire(ctx, queue.over(own.conn))
		}
		switch {
		case ctx.Err() != nil:
			return 0
		case err != nil && own.conn != nil && answered(err): // no memory, or a foreign key: the other queues may be in order
			s.log.Warn("cannot run the schedules; trying again", "queue", queue.Name(), "error", err)
		case err != nil:
			if own.broke(); own.failures == 1 { // of the others the sweeps say enough
				s.log.Warn("cannot run the schedules; trying again", "queue", queue.Name(), "error", err)
			}
			longest := min(firstWait<<min(own.failures-1, 10), deaf, s.interval)
			return longest/2 + rand.N(longest/2+1)
		case next >= 0:
			pause = min(pause, next)
		}
	}
	own.failures = 0
	return pause
}

// fire enqueues what the schedules of a queue say is due. It may be killed anywhere, and done by any number at the same time. It
// returns how long it takes until the next occurrence; negative if there is none.
func (s *Sweeper) fire(ctx context.Context, queue *Queue) (time.Duration, error) {
	key := queue.Keys.CronDue
	reply, err := queue.caller.call(ctx, "ZRANGE", key, "0", "0")
	if some, _ := reply.([]any); err != nil || len(some) == 0 {
		return -1, err // most queues have no schedules: this is all that it costs
	}
	now, err := queue.now(ctx)
	if err != nil {
		return -1, err
	}
	if reply, err = queue.caller.call(ctx, "ZRANGEBYSCORE", key, "-inf", decimal(now)); err != nil {
		return -1, err
	}
	names, _ := reply.([]any)
	for _, name := range names {
		if err := s.fireOne(ctx, queue, string(bulk(name)), now); err != nil {
			return -1, err
		}
	}
	reply, err = queue.caller.call(ctx, "ZRANGEBYSCORE", key, "("+decimal(now), "+inf", "LIMIT", "0", "1")
	first, _ := reply.([]any)
	if err != nil || len(first) == 0 {
		return -1, err
	}
	due, err := queue.dueAt(ctx, string(bulk(first[0])))
	if err != nil || due == never {
		return -1, err
	}
	return time.Duration(max(0, due-now)) * time.Millisecond, nil
}

func (s *Sweeper) fireOne(ctx context.Context, queue *Queue, name string, now int64) error {
	for {
		seen, due, err := queue.schedule(ctx, name)
		if err != nil || due == never || due > now {
			return err // if there is no error, somebody else has done it
		}
		if seen == nil { // a name without a schedule
			_, err := queue.cron(ctx, cronChange{name: name, due: due, next: never})
			return err
		}
		t, task, err := unpackSchedule(seen)
		if err != nil {
			s.log.Error("a schedule cannot be run here, and waits; if it is in order, it needs a Python sweeper",
				"queue", queue.Name(), "schedule", name, "error", err)
			return nil
		}
		count, next := t.decide(due, now)
		done, err := queue.cron(ctx, cronChange{name, seen, due, seen, next, task, count})
		if err != nil {
			return err
		}
		if done && count == 0 {
			s.log.Warn("a schedule was missed, and goes on", "queue", queue.Name(), "schedule", name)
		}
		if done && (next == never || next > now) {
			return nil
		}
	}
}
