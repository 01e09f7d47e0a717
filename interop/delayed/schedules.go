package delayed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/cron"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// ErrUnknownSchedule says that a queue has no schedule of this name.
var ErrUnknownSchedule = errors.New("delayed: unknown schedule")

// Scheduled is a schedule as it stands in Redis.
type Scheduled struct {
	Name string
	Cron
	Task    string        // function path
	Expires time.Duration // after each occurrence, until which its task may begin; 0 for no bound
	Next    time.Time     // zero: it is paused
	Err     error         // why it cannot be read here; then of the rest only Name and Next are known
}

// Schedule lets sweepers enqueue a task whenever c says. It is written to Redis, and goes on until RemoveSchedule; call it at each
// deployment: a schedule that has not changed is left alone, one at the same times keeps its next occurrence, and one that is paused
// stays so. If the task has Expires, that counts from each occurrence, and what could not begin any more is not enqueued. It returns
// whether there was another of this name before, or none. The error wraps ErrInvalidSchedule or ErrInvalidTask, or is Redis's.
//
// A Worker that serves this very Queue writes it again if Redis has lost its data.
func (q *Queue) Schedule(ctx context.Context, name string, task Task, c Cron) (bool, error) {
	t, err := c.read()
	if err != nil {
		return false, err
	}
	found, err := q.define(task, t)
	if err != nil {
		return false, err
	}
	definition, err := found.pack()
	if err != nil {
		return false, err
	}
	this := defined{definition, t, false}
	q.defined.keep(name, this)
	return q.putSchedule(ctx, name, this)
}

// putSchedule writes a schedule to Redis. It returns whether there was another before, or none.
func (q *Queue) putSchedule(ctx context.Context, name string, this defined) (bool, error) {
	for range mostTries {
		seen, due, err := q.store.Schedule(ctx, name)
		if err != nil || seen != nil && bytes.Equal(seen, this.definition) {
			return false, err
		}
		next := due
		if seen == nil || due != "" && !sameTimes(seen, cronIn(this.timetable)) {
			now, err := q.store.Now(ctx)
			if err != nil {
				return false, err
			}
			next = rdb.ScoreAt(this.timetable.After(now))
		}
		done, err := q.store.ChangeSchedule(ctx, rdb.ScheduleChange{Name: name, Seen: seen, Due: due, Definition: this.definition, Next: next})
		if done || err != nil {
			return done, err
		}
	}
	return false, q.restless(name)
}

func (q *Queue) restless(name string) error {
	return fmt.Errorf("delayed: schedule %q of %q was changed by others %d times; try again", name, q.Name(), mostTries)
}

// Schedules are the schedules of the queue, by their next occurrence; those that are paused come last.
func (q *Queue) Schedules(ctx context.Context) ([]Scheduled, error) {
	reply, err := q.store.Caller.Call(ctx, "HKEYS", q.store.Keys.Cron)
	names, _ := reply.([]any)
	found := make([]Scheduled, 0, len(names))
	for _, each := range names {
		if err != nil {
			break
		}
		name := string(rdb.Bulk(each))
		var seen []byte
		var due rdb.Score
		if seen, due, err = q.store.Schedule(ctx, name); seen == nil {
			continue // it was there
		}
		listed := Scheduled{Name: name}
		if moment := due.Moment(); moment != cron.Never {
			listed.Next = time.UnixMilli(moment)
		}
		this, broken := unpackSchedule(seen)
		if listed.Err = broken; broken == nil {
			listed.Cron, listed.Expires = cronIn(this.Timetable), rdb.Span(this.expires)
			listed.Task, _, _ = wire.Peek(this.task)
		}
		found = append(found, listed)
	}
	slices.SortFunc(found, func(a, b Scheduled) int {
		if a.Next.IsZero() != b.Next.IsZero() {
			return cmp.Compare(b.Next.Unix(), a.Next.Unix()) // the zero time is before all others
		}
		return cmp.Or(a.Next.Compare(b.Next), strings.Compare(a.Name, b.Name))
	})
	return found, err
}

// PauseSchedule lets a schedule not fire until it is resumed. It returns whether it was not paused before. The error wraps
// ErrUnknownSchedule if there is none.
func (q *Queue) PauseSchedule(ctx context.Context, name string) (bool, error) {
	return q.changeSchedule(ctx, name, func(seen []byte, due rdb.Score) (*rdb.ScheduleChange, error) {
		if due == "" {
			return nil, nil
		}
		return &rdb.ScheduleChange{Definition: seen}, nil
	})
}

// ResumeSchedule lets a paused schedule fire from now on; what would have been meanwhile is not caught up with. It returns whether
// it was paused. The error wraps ErrUnknownSchedule, or ErrInvalidSchedule if it cannot be read here.
func (q *Queue) ResumeSchedule(ctx context.Context, name string) (bool, error) {
	return q.changeSchedule(ctx, name, func(seen []byte, due rdb.Score) (*rdb.ScheduleChange, error) {
		if due.Moment() != cron.Never {
			return nil, nil
		}
		this, err := unpackSchedule(seen)
		if err != nil {
			return nil, err
		}
		now, err := q.store.Now(ctx)
		return &rdb.ScheduleChange{Definition: seen, Next: rdb.ScoreAt(this.After(now))}, err
	})
}

// RunSchedule enqueues the task of a schedule now, whether it is paused or not; its next occurrence stays. The error is as of
// ResumeSchedule.
func (q *Queue) RunSchedule(ctx context.Context, name string) error {
	_, err := q.changeSchedule(ctx, name, func(seen []byte, due rdb.Score) (*rdb.ScheduleChange, error) {
		this, err := unpackSchedule(seen)
		if err != nil {
			return nil, err
		}
		now, err := q.store.Now(ctx)
		if err != nil {
			return nil, err
		}
		task, err := this.taskOf(now)
		return &rdb.ScheduleChange{Definition: seen, Next: due, Task: task, Count: 1}, err
	})
	return err
}

// RemoveSchedule forgets a schedule. The error wraps ErrUnknownSchedule if there is none.
func (q *Queue) RemoveSchedule(ctx context.Context, name string) error {
	q.defined.forget(name)
	_, err := q.changeSchedule(ctx, name, func([]byte, rdb.Score) (*rdb.ScheduleChange, error) { return &rdb.ScheduleChange{}, nil })
	return err
}

// changeSchedule tries a change until nobody else was faster; nil says that there is nothing to change.
func (q *Queue) changeSchedule(ctx context.Context, name string, change func([]byte, rdb.Score) (*rdb.ScheduleChange, error)) (bool, error) {
	for range mostTries {
		seen, due, err := q.store.Schedule(ctx, name)
		if err != nil {
			return false, err
		}
		if seen == nil {
			return false, fmt.Errorf("%w: %q has none that is called %q; Schedules lists those that there are",
				ErrUnknownSchedule, q.Name(), name)
		}
		wanted, err := change(seen, due)
		if err != nil || wanted == nil {
			return false, err
		}
		wanted.Name, wanted.Seen, wanted.Due = name, seen, due
		done, err := q.store.ChangeSchedule(ctx, *wanted)
		if done || err != nil {
			return done, err
		}
	}
	return false, q.restless(name)
}
