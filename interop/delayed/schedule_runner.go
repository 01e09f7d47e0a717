package delayed

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/cron"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const mostTries = 100 // of one change that others are faster than

// fireSome is fire for a while, before other things have their turn.
func (s *Sweeper) fireSome(ctx context.Context, queue *Queue) (time.Duration, error) {
	enough := time.Now().Add(firingSlice)
	return s.fireUntil(ctx, queue, func() bool { return time.Now().After(enough) })
}

// fire enqueues what the schedules of a queue say is due. It may be killed anywhere, and done by any number at the same time. It
// returns how long it takes until the next occurrence; negative if there is none.
func (s *Sweeper) fire(ctx context.Context, queue *Queue) (time.Duration, error) {
	return s.fireUntil(ctx, queue, func() bool { return false })
}

// fireUntil is fire until it is enough, which is asked after each step; what had no turn yet comes first at the next call. It returns 0
// if there is more to do now.
func (s *Sweeper) fireUntil(ctx context.Context, queue *Queue, enough func() bool) (time.Duration, error) {
	key := queue.store.Keys.CronDue
	reply, err := queue.store.Caller.Call(ctx, "ZRANGE", key, "0", "0")
	if some, _ := reply.([]any); err != nil || len(some) == 0 {
		return -1, err // most queues have no schedules: this is all that it costs
	}
	now, err := queue.store.Now(ctx)
	if err != nil {
		return -1, err
	}
	if reply, err = queue.store.Caller.Call(ctx, "ZRANGEBYSCORE", key, "-inf", rdb.Decimal(now)); err != nil {
		return -1, err
	}
	var due []string
	names, _ := reply.([]any)
	for _, name := range names {
		due = append(due, string(rdb.Bulk(name)))
	}
	more, err := s.fireAll(ctx, queue, due, now, enough)
	if err != nil {
		return -1, err
	}
	if more {
		return 0, nil
	}
	return queue.store.NextOccurrence(ctx, now)
}

// fireAll fires schedules that are due, and those first that had no turn yet. One that cannot be run does not stop the others.
func (s *Sweeper) fireAll(ctx context.Context, queue *Queue, due []string, now int64, enough func() bool) (more bool, err error) {
	this := letterKey{queue.store.Client, queue.Name()}
	isDue, waits := map[string]bool{}, map[string]bool{}
	for _, name := range due {
		isDue[name] = true
	}
	var left []string
	for _, name := range s.unfired[this] {
		if isDue[name] && !waits[name] {
			left, waits[name] = append(left, name), true
		}
	}
	for _, name := range due {
		if !waits[name] {
			left = append(left, name)
		}
	}
	var refusal error
	for len(left) > 0 {
		name := left[0]
		left = left[1:]
		var done bool
		err := guarded(func() (err error) { done, err = s.fireOne(ctx, queue, name, now, enough); return err })
		var defect *broken
		switch {
		case errors.As(err, &defect):
			s.log.Error("a schedule cannot be run, and waits", "queue", queue.Name(), "schedule", name, "error", err)
		case err != nil && !conn.Answered(err):
			return false, err
		case err != nil: // no memory, or a foreign key: what else there is to do matters as much
			refusal = cmp.Or(refusal, err)
		case !done:
			left = append(left, name) // there is more of it, after the others
		}
		if enough() {
			break
		}
	}
	s.unfired[this] = left
	return len(left) > 0, refusal
}

// fireOne fires one schedule. False if there is more to do.
func (s *Sweeper) fireOne(ctx context.Context, queue *Queue, name string, now int64, enough func() bool) (done bool, err error) {
	for range mostTries {
		seen, due, err := queue.store.Schedule(ctx, name)
		if err != nil || due == "" || due.After(now) {
			return true, err // if there is no error, somebody else has done it
		}
		if seen == nil { // a name without a schedule
			_, err := queue.store.ChangeSchedule(ctx, rdb.ScheduleChange{Name: name, Due: due})
			return true, err
		}
		this, err := unpackSchedule(seen)
		if err != nil {
			s.log.Error("a schedule cannot be run here, and waits; if it is in order, it needs a Python sweeper",
				"queue", queue.Name(), "schedule", name, "error", err)
			return true, nil
		}
		task, count, next, err := this.fires(due.Moment(), now)
		if err != nil {
			return true, err
		}
		done, err := queue.store.ChangeSchedule(ctx, rdb.ScheduleChange{Name: name, Seen: seen, Due: due, Definition: seen, Next: rdb.ScoreAt(next), Task: task, Count: count})
		if err != nil {
			return true, err
		}
		if done && count == 0 {
			s.log.Warn("a schedule was missed, and goes on", "queue", queue.Name(), "schedule", name)
		}
		if done && (next == cron.Never || next > now) {
			return true, nil
		}
		if done && enough() {
			break
		}
	}
	return false, nil
}

// fires says what is enqueued now of a schedule whose next occurrence was to be at due, and how often, and when the next one is. If it is
// not known when it was to be, nobody knows what has been missed.
func (e entry) fires(due, now int64) (task []byte, count int, next int64, err error) {
	if due == cron.Never {
		return e.task, 0, e.After(now), nil
	}
	if e.expires == 0 {
		count, next = e.Decide(due, now)
		return e.task, count, next, nil
	}
	moment, next := e.DecideExpiring(due, now, e.expires)
	if moment != cron.Never {
		count = 1
	}
	task, err = e.taskOf(moment)
	return task, count, next, err
}
