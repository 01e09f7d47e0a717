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

// Turn fills the queue up to most tasks from the lists of these groups (named by their SHA-1), which are the first in the rotation:
// one from each, in turns. It returns how many were moved.
func (q *Queue) Turn(ctx context.Context, groups []string, most int) (int, error) {
	keys := []string{q.Keys.Queue, q.Keys.Noti, q.Keys.Groups}
	for _, group := range groups {
		keys = append(keys, q.Keys.Group(group))
	}
	return q.count(ctx, "turn", keys, append([]string{strconv.Itoa(most)}, groups...)...)
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
