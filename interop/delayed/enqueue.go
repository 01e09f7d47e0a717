package delayed

import (
	"context"
	"fmt"
	"iter"
	"strconv"

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

// EnqueueMany puts tasks at the end of the queue, in order, in chunks of 1000 tasks or 1 MiB; each chunk goes in
// whole or not at all, and is durable before the next one is sent. It returns how many tasks are in the queue for certain, and
// durable. (A slice becomes a sequence by slices.Values.)
func (q *Queue) EnqueueMany(ctx context.Context, tasks iter.Seq[Task]) (int, error) {
	return q.enqueueEach(ctx, tasks, nil)
}

// enqueueEach is EnqueueMany, and calls added, if it is not nil, with the number of each task that is in the queue for certain, and with
// its handle.
func (q *Queue) enqueueEach(ctx context.Context, tasks iter.Seq[Task], added func(int, *Handle)) (int, error) {
	if q.around == nil {
		return q.addEach(ctx, tasks, added)
	}
	count := 0
	err := q.within(ctx, &Sending{Queue: q.Name()}, func(ctx context.Context, s *Sending) (err error) {
		count, err = q.addEach(ctx, tasks, added)
		s.Count = count
		return err
	})
	return count, err
}

func (q *Queue) addEach(ctx context.Context, tasks iter.Seq[Task], added func(int, *Handle)) (int, error) {
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
		c.add(destinationOf(q.store.Keys, o), data)
		if c.tracked {
			c.ids = append(c.ids, b.id)
		}
		if added != nil {
			c.handles = append(c.handles, numbered{number, q.handle(o.identity(b), false, task)})
		}
	}
	err := flush()
	return count, err
}

// chunk is what goes in together, by where it goes.
type chunk struct {
	destinations []rdb.Destination // in the order of their first tasks
	tasks        [][]string
	handles      []numbered // of the tasks, if anybody wants them
	ids          []string   // of the tasks, if they are tracked
	tracked      bool       // all of them are
	places       map[rdb.Destination]int
	count, size  int
}

// numbered is the handle of a task that is that many behind the first.
type numbered struct {
	number int
	handle *Handle
}

func (c *chunk) add(to rdb.Destination, data string) {
	i, known := c.places[to]
	if !known {
		if c.places == nil {
			c.places = map[rdb.Destination]int{}
		}
		i = len(c.destinations)
		c.places[to] = i
		c.destinations, c.tasks = append(c.destinations, to), append(c.tasks, nil)
	}
	c.tasks[i] = append(c.tasks[i], data)
	c.count++
	c.size += len(data)
}

// send empties a chunk into the queue, and gives added the handles of tasks that are there. It returns how many are, for certain.
func (q *Queue) send(ctx context.Context, c *chunk, added func(int, *Handle)) (count int, err error) {
	switch {
	case c.count == 0:
	case !c.tracked && len(c.destinations) == 1 && c.destinations[0].Word == rdb.Notification:
		err = q.enqueue(ctx, c.tasks[0])
	default:
		err = q.submitMany(ctx, c)
	}
	if err == nil {
		count = c.count
		for _, each := range c.handles {
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

// submitMany puts tasks in which are tracked or have groups, all or none of them. Groups that had none may have their turn then.
func (q *Queue) submitMany(ctx context.Context, c *chunk) error {
	keys := []string{q.store.Keys.Noti, q.store.Keys.Groups}
	words := []string{rdb.Milliseconds(rdb.TrackedFor), strconv.Itoa(len(c.destinations))}
	for i, to := range c.destinations {
		keys = append(keys, to.List)
		words = append(words, to.Word, strconv.Itoa(len(c.tasks[i])))
	}
	for _, tasks := range c.tasks {
		words = append(words, tasks...)
	}
	for _, id := range c.ids {
		keys = append(keys, q.store.Keys.Task(id))
	}
	reply, err := q.add(ctx, "submit_many", keys, words...)
	if err != nil {
		return err
	}
	if reply == int64(0) {
		return fmt.Errorf("delayed: a task with one of these ids is known in %q already; none of them was enqueued", q.Name())
	}
	if first := rdb.Strings(reply); len(first) > 0 {
		q.store.GiveTurn(ctx, first...)
	}
	return nil
}
