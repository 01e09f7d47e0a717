package delayed

import (
	"context"
	"fmt"
	"iter"
)

const (
	chunkTasks = 1000    // that one call of EnqueueMany's script carries at most
	chunkBytes = 1 << 20 // likewise, unless a single task is larger
)

// Len is how many tasks wait.
func (q *Queue) Len(ctx context.Context) (int, error) {
	reply, err := q.caller.call(ctx, "LLEN", q.Keys.Queue)
	n, _ := reply.(int64)
	return int(n), err
}

// Enqueue puts a task at the end of the queue. When it returns nil, the task is in Redis. An error that wraps ErrInvalidTask means
// that nothing was sent, one that wraps ErrNotDurable that the task is in the queue and may run, but not where Durability wants it, and
// one that wraps ErrOutcomeUnknown that the task may or may not be in the queue: it is never sent twice, whatever the client's
// MaxRetries.
//
// A task that asks for more than a place at the tail goes where its options say; Submit does the same, and returns its handle.
func (q *Queue) Enqueue(ctx context.Context, task Task) error {
	data, err := q.serialize(task)
	if err != nil {
		return err
	}
	if o := asksOf(task); o.submits() {
		_, err := q.submit(ctx, data, o)
		return err
	}
	return q.enqueue(ctx, []string{data})
}

// EnqueueMany puts tasks at the end of the queue, in order, in chunks of 1000 tasks or 1 MiB; each chunk goes in whole or not at
// all, and is durable before the next one is sent. It returns how many tasks are in the queue for certain, and durable. (A slice becomes a sequence by slices.Values.)
func (q *Queue) EnqueueMany(ctx context.Context, tasks iter.Seq[Task]) (int, error) {
	var chunk []string
	count, size := 0, 0
	flush := func() error {
		if len(chunk) == 0 {
			return nil
		}
		err := q.enqueue(ctx, chunk)
		if err == nil {
			count += len(chunk)
		}
		chunk, size = chunk[:0], 0
		return err
	}
	for task := range tasks {
		data, err := q.serialize(task)
		if err != nil {
			return count, err
		}
		o := asksOf(task)
		if o.submits() || len(chunk) == chunkTasks || len(chunk) > 0 && size+len(data) > chunkBytes {
			if err := flush(); err != nil {
				return count, err
			}
		}
		if o.submits() { // it goes in by itself
			if _, err := q.submit(ctx, data, o); err != nil {
				return count, err
			}
			count++
			continue
		}
		chunk = append(chunk, data)
		size += len(data)
	}
	err := flush()
	return count, err
}

// add runs a script that adds tasks, and sees that they are durable.
func (q *Queue) add(ctx context.Context, name string, keys []string, args ...string) (any, error) {
	if q.durability.text == inMemory {
		return q.run(ctx, name, keys, args...)
	}
	script := scripts[name]
	return q.durability.add(ctx, q, script.withSource(script.command(keys, args)))
}

func (q *Queue) enqueue(ctx context.Context, chunk []string) error {
	_, err := q.add(ctx, "enqueue", []string{q.Keys.Queue, q.Keys.Noti}, chunk...)
	return err
}

func (q *Queue) serialize(task Task) (string, error) {
	data, err := task.Serialize()
	if err == nil && len(data) > q.maxSize {
		err = fmt.Errorf("%w: the task for %s has %d bytes, and %q takes %d at most: keep the data elsewhere and send where it is, "+
			"or make the queue with a larger MaxTaskSize", ErrTaskTooLarge, task.FuncPath(), len(data), q.Name(), q.maxSize)
	}
	return string(data), err
}
