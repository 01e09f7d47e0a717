package delayed

import (
	"context"
)

// spotOf is the spot of a task that asks for this; nil for one that asks for nothing.
func (k Keys) spotOf(o *taskOptions) spot {
	if o == nil || o.group == nil {
		return k.tail()
	}
	return k.within(*o.group)
}

func (q *Queue) enqueueAt(ctx context.Context, to spot, tasks []string) (first bool, err error) {
	reply, err := q.add(ctx, "enqueue_group", []string{to.list, to.announces}, append([]string{to.word}, tasks...)...)
	return reply == int64(1), err
}

// feed lets groups take turns where there are any.
func (w *Worker) feed() error {
	for _, b := range w.books {
		if !b.gate.grouped.Load() {
			continue
		}
		more, err := b.queue.over(w.takes).store.feed(context.Background(), min(batchesReady*(len(w.slots)+w.ahead(b)), mostReady))
		if err != nil {
			return err
		}
		if !more {
			b.gate.grouped.Store(false)
		}
	}
	return nil
}
