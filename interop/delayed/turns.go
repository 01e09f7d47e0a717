package delayed

import (
	"context"
	"strconv"
)

const (
	batchesReady = 2   // that a queue with groups has ready for a worker: a longer queue would make groups wait
	mostReady    = 256 // tasks, likewise
	fewReady     = 16  // tasks that it has ready at least, whoever works on it
)

// spot is where a task waits: the list, the list that announces it, and the word that does.
type spot struct{ list, announces, word string }

// tail is the spot of tasks without a group.
func (k Keys) tail() spot { return spot{k.Queue, k.Noti, notification} }

// within is the spot of a group's tasks.
func (k Keys) within(group string) spot {
	name := digest(group)
	return spot{k.Group(name), k.Groups, name}
}

// spotOf is the spot of a task that asks for this; nil for one that asks for nothing.
func (k Keys) spotOf(o *taskOptions) spot {
	if o == nil || o.group == nil {
		return k.tail()
	}
	return k.within(*o.group)
}

// Turn fills the queue up to most tasks from the lists of these groups (named by their SHA-1), which are the first in the rotation:
// one from each, in turns. It returns how many were moved.
func (q *Queue) Turn(ctx context.Context, groups []string, most int) (int, error) {
	keys := []string{q.Keys.Queue, q.Keys.Noti, q.Keys.Groups}
	for _, group := range groups {
		keys = append(keys, q.Keys.Group(group))
	}
	return q.count(ctx, "turn", keys, append([]string{strconv.Itoa(most)}, groups...)...)
}

// Regroup moves, of the first most tasks in the schedule, those that are due and belong to one of these groups (named by their SHA-1) to
// its list. It returns how many there were, and which other groups have tasks that are due.
func (q *Queue) Regroup(ctx context.Context, groups []string, most int) (moved int, others []string, err error) {
	keys := []string{q.Keys.Queue, q.Keys.Noti, q.Keys.Scheduled, q.Keys.Groups}
	for _, group := range groups {
		keys = append(keys, q.Keys.Group(group))
	}
	reply, err := q.run(ctx, "regroup", keys, append([]string{strconv.Itoa(most)}, groups...)...)
	values, _ := reply.([]any)
	if err != nil || len(values) == 0 {
		return 0, nil, err
	}
	count, _ := values[0].(int64)
	for _, value := range values[1:] {
		others = append(others, string(bulk(value)))
	}
	return int(count), others, nil
}

// toGroups lets tasks of groups that are due wait in their groups, and some in the queue. It returns how many there were.
func (q *Queue) toGroups(ctx context.Context, most int) (moved int, err error) {
	_, groups, err := q.Regroup(ctx, nil, most)
	if err == nil {
		moved, _, err = q.Regroup(ctx, groups, most)
	}
	if err == nil {
		_, err = q.feed(ctx, fewReady)
	}
	return moved, err
}

// EnqueueGroup puts tasks, which are there in bytes, at the end of their group. It returns whether that had none: its turn may be now.
func (q *Queue) EnqueueGroup(ctx context.Context, group string, tasks []string) (bool, error) {
	return q.enqueueAt(ctx, q.Keys.within(group), tasks)
}

func (q *Queue) enqueueAt(ctx context.Context, to spot, tasks []string) (first bool, err error) {
	reply, err := q.add(ctx, "enqueue_group", []string{to.list, to.announces}, append([]string{to.word}, tasks...)...)
	return reply == int64(1), err
}

// itsTurn lets a group have its turn which had no tasks before. The tasks are in Redis: if this fails, a worker or a sweeper does it.
func (q *Queue) itsTurn(ctx context.Context, to spot) {
	q.Turn(ctx, []string{to.word}, fewReady) //nolint:errcheck // see above
}

// feed fills the queue up to most tasks from its groups. False if no group has any.
func (q *Queue) feed(ctx context.Context, most int) (bool, error) {
	reply, err := q.caller.call(ctx, "LRANGE", q.Keys.Groups, "0", strconv.Itoa(most-1))
	values, _ := reply.([]any)
	if err != nil || len(values) == 0 {
		return false, err
	}
	groups := make([]string, len(values))
	for i, value := range values {
		groups[i] = string(bulk(value))
	}
	_, err = q.Turn(ctx, groups, most)
	return true, err
}

// feed lets groups take turns where there are any.
func (w *Worker) feed() error {
	for _, b := range w.books {
		if !b.gate.grouped.Load() {
			continue
		}
		more, err := b.queue.over(w.takes).feed(context.Background(), min(batchesReady*(len(w.slots)+w.ahead(b)), mostReady))
		if err != nil {
			return err
		}
		if !more {
			b.gate.grouped.Store(false)
		}
	}
	return nil
}
