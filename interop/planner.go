package delayed

import (
	"context"
	"time"
)

// fireIn runs the schedules of a queue that are due. It returns how long it takes until the next one is; negative if there is none.
func (s *Sweeper) fireIn(ctx context.Context, queue *Queue) (time.Duration, error) {
	next, err := s.fire(ctx, queue)
	if err != nil && answered(err) { // no memory, or a foreign key: what else there is to do matters as much
		s.log.Warn("cannot run the schedules; trying again", "queue", queue.Name(), "error", err)
		return -1, nil
	}
	return next, err
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
		this, err := unpackSchedule(seen)
		if err != nil {
			s.log.Error("a schedule cannot be run here, and waits; if it is in order, it needs a Python sweeper",
				"queue", queue.Name(), "schedule", name, "error", err)
			return nil
		}
		task, count, next, err := this.fires(due, now)
		if err != nil {
			return err
		}
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

// fires says what is enqueued now of a schedule whose next occurrence was to be at due, and how often, and when the next one is.
func (e entry) fires(due, now int64) (task []byte, count int, next int64, err error) {
	if e.expires == 0 {
		count, next = e.decide(due, now)
		return e.task, count, next, nil
	}
	moment, next := e.choose(due, now)
	if moment != never {
		count = 1
	}
	task, err = e.taskOf(moment)
	return task, count, next, err
}
