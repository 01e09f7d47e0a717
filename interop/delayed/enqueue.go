package delayed

import (
	"context"
	"fmt"
	"iter"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

const (
	chunkTasks = 1000    // that one call of EnqueueMany's script carries at most
	chunkBytes = 1 << 20 // likewise, unless a single task is larger
)

// Len is how many tasks wait.
func (q *Queue) Len(ctx context.Context) (int, error) {
	reply, err := q.store.Caller.Call(ctx, "LLEN", q.store.Keys.Queue)
	n, _ := reply.(int64)
	return int(n), err
}

// Enqueue puts a task at the end of the queue. When it returns nil, the task is in Redis. An error that wraps ErrInvalidTask means
// that nothing was sent, one that wraps ErrNotDurable that the task is in the queue and may run, but not where Durability wants it, and
// one that wraps ErrOutcomeUnknown that the task may or may not be in the queue: it is never sent twice, whatever the client's
// MaxRetries. What is enqueued twice is there twice.
//
// A task that asks for more than a place at the tail goes where its options say; Submit does the same, and returns its handle.
func (q *Queue) Enqueue(ctx context.Context, task Task) error {
	_, err := q.Submit(ctx, task)
	return err
}

// EnqueueMany puts tasks at the end of the queue, in order, in chunks of 1000 tasks or 1 MiB; each chunk (or what each group has of it)
// goes in whole or not at all, and is durable before the next one is sent. It returns how many tasks are in the queue for certain, and
// durable. (A slice becomes a sequence by slices.Values.)
func (q *Queue) EnqueueMany(ctx context.Context, tasks iter.Seq[Task]) (int, error) {
	return q.enqueueEach(ctx, tasks, nil)
}

// enqueueEach is EnqueueMany, and calls added, if it is not nil, with the number of each task that is in the queue for certain, and with
// its handle.
func (q *Queue) enqueueEach(ctx context.Context, tasks iter.Seq[Task], added func(int, *Handle)) (int, error) {
	c, count, seen := chunk{}, 0, 0
	flush := func() error {
		n, err := q.send(ctx, &c, added)
		count += n
		return err
	}
	for task := range tasks {
		number := seen
		seen++
		o := asksOf(task)
		b, data, err := q.born(ctx, task, "")
		if err != nil {
			return count, err
		}
		if o.alone() || c.count > 0 && c.tracked != o.tracked() || c.count == chunkTasks || c.count > 0 && c.size+len(data) > chunkBytes {
			if err := flush(); err != nil {
				return count, err
			}
		}
		if o.alone() {
			handle, err := q.submit(ctx, task, data, o, b)
			if err != nil {
				return count, err
			}
			if added != nil {
				added(number, handle)
			}
			count++
			continue
		}
		c.tracked = o.tracked()
		place := c.add(destinationOf(q.store.Keys, o), data)
		if c.tracked {
			c.ids[place] = append(c.ids[place], b.id)
		}
		if added != nil {
			c.handles[place] = append(c.handles[place], numbered{number, q.handle(o.identity(b), false, task)})
		}
	}
	err := flush()
	return count, err
}

// chunk is what goes in together, by where it goes.
type chunk struct {
	destinations []rdb.Destination // in the order of their first tasks
	tasks        [][]string
	handles      [][]numbered // of the tasks, if anybody wants them
	ids          [][]string   // of those that are tracked
	tracked      bool         // all of them are
	places       map[rdb.Destination]int
	count, size  int
}

// numbered is the handle of a task that is that many behind the first.
type numbered struct {
	number int
	handle *Handle
}

// add returns which of the destinations it is.
func (c *chunk) add(to rdb.Destination, data string) int {
	i, known := c.places[to]
	if !known {
		if c.places == nil {
			c.places = map[rdb.Destination]int{}
		}
		i = len(c.destinations)
		c.places[to] = i
		c.destinations, c.tasks, c.handles, c.ids = append(c.destinations, to), append(c.tasks, nil), append(c.handles, nil), append(c.ids, nil)
	}
	c.tasks[i] = append(c.tasks[i], data)
	c.count++
	c.size += len(data)
	return i
}

// send empties a chunk into the queue, and gives added the handles of tasks that are there. It returns how many are, for certain.
func (q *Queue) send(ctx context.Context, c *chunk, added func(int, *Handle)) (count int, err error) {
	for i, to := range c.destinations {
		first := false
		switch {
		case c.tracked:
			first, err = q.submitMany(ctx, to, c.ids[i], c.tasks[i])
		case to.Word == rdb.Notification:
			err = q.enqueue(ctx, c.tasks[i])
		default:
			first, err = q.enqueueAt(ctx, to, c.tasks[i])
		}
		if first {
			q.store.GiveTurn(ctx, to)
		}
		if err != nil {
			break
		}
		count += len(c.tasks[i])
		for _, each := range c.handles[i] {
			added(each.number, each.handle)
		}
	}
	*c = chunk{}
	return count, err
}

// add runs a script that adds tasks, and sees that they are durable.
func (q *Queue) add(ctx context.Context, name string, keys []string, args ...string) (any, error) {
	if q.durability.text == inMemory {
		return q.store.Run(ctx, name, keys, args...)
	}
	return q.durability.add(ctx, q, rdb.WithSource(rdb.ScriptCall(name, keys, args...)))
}

func (q *Queue) enqueue(ctx context.Context, chunk []string) error {
	_, err := q.add(ctx, "enqueue", []string{q.store.Keys.Queue, q.store.Keys.Noti}, chunk...)
	return err
}

func (q *Queue) serialize(task Task, b birth) (string, error) {
	var data []byte
	var err error
	if ours, ok := task.(asking); ok {
		data, err = ours.serialize(b)
	} else {
		data, err = task.Serialize()
	}
	if err == nil && len(data) > q.maxSize {
		err = fmt.Errorf("%w: the task for %s has %d bytes, and %q takes %d at most: keep the data elsewhere and send where it is, "+
			"or make the queue with a larger MaxTaskSize", ErrTaskTooLarge, task.FuncPath(), len(data), q.Name(), q.maxSize)
	}
	return string(data), err
}

// destinationOf is where a task waits that asks for this; o is nil for one that asks for nothing.
func destinationOf(k rdb.Keys, o *taskOptions) rdb.Destination {
	if o == nil || o.group == nil {
		return k.Tail()
	}
	return k.GroupTail(*o.group)
}

// submitMany puts tracked tasks in, all or none of them. first: their group had none, and it may be its turn.
func (q *Queue) submitMany(ctx context.Context, to rdb.Destination, ids, tasks []string) (first bool, err error) {
	keys := []string{to.List, to.Announces}
	for _, id := range ids {
		keys = append(keys, q.store.Keys.Task(id))
	}
	reply, err := q.add(ctx, "submit_many", keys, append([]string{to.Word, rdb.Milliseconds(rdb.TrackedFor)}, tasks...)...)
	if err == nil && reply == int64(0) {
		err = fmt.Errorf("delayed: a task with one of these ids is known in %q already; none of them was enqueued", q.Name())
	}
	return reply == int64(2), err
}

func (q *Queue) enqueueAt(ctx context.Context, to rdb.Destination, tasks []string) (first bool, err error) {
	reply, err := q.add(ctx, "enqueue_group", []string{to.List, to.Announces}, append([]string{to.Word}, tasks...)...)
	return reply == int64(1), err
}
