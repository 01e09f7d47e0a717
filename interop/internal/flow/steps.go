package flow

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// step does a part of what stands at the head, and is for us. A step that somebody else has done does nothing.
func (c *Carrier) step(ctx context.Context, flow, head string) error {
	var words []int64
	for _, word := range strings.Fields(head[1:]) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: %q is no step: %w", errNoFlow, head, err)
		}
		words = append(words, n)
	}
	if len(words) < 2 {
		return fmt.Errorf("%w: %q is no step", errNoFlow, head)
	}
	switch head[0] {
	case 'R':
		return c.release(ctx, flow, head, words)
	case 'M':
		return c.expand(ctx, flow, head, words)
	}
	return c.cancel(ctx, flow, head, words)
}

// advance is a call of flow_step.
type advance struct {
	rest        string   // what stands at the head from now on
	fields      []string // names and values
	bodies      string   // the list of a set
	queue       string   // where tasks go
	from, count int64    // which of that list
	tasks       []string // or these, for the list or the queue
	told        []string // if there is neither: what else is to be done
}

func (c *Carrier) advance(ctx context.Context, flow, head string, a advance) error {
	k := c.store.Keys
	keys := []string{k.Joins(flow), k.FlowOutbox, k.Flow(flow), k.Flow(flow), k.Flow(flow), k.Flow(flow)}
	if a.bodies != "" {
		keys[3] = a.bodies
	}
	if a.queue != "" {
		keys[4], keys[5] = a.queue, a.queue+"_noti"
	}
	args := []string{flow, head, a.rest, rdb.Decimal(a.from), rdb.Decimal(a.count), strconv.Itoa(len(a.fields))}
	_, err := c.add(ctx, c.store, "flow_step", keys, slices.Concat(args, a.fields, a.tasks, a.told)...)
	return err
}

func (c *Carrier) set(ctx context.Context, flow string, number int64) (nodeSet, bool, error) {
	found, err := c.field(ctx, flow, "s"+rdb.Decimal(number))
	set, ok := setOf(found)
	return set, ok, err
}

// queueOf is where the nodes of a set go.
func (c *Carrier) queueOf(ctx context.Context, flow string, set nodeSet) (rdb.Keys, error) {
	names, err := c.learn(ctx, flow)
	if err != nil {
		return rdb.Keys{}, err
	}
	if set.queue < 1 || set.queue > len(names) {
		return rdb.Keys{}, fmt.Errorf("%w: workflow %s has no queue %d", errNoFlow, flow, set.queue)
	}
	return rdb.NewKeys(names[set.queue-1])
}

// release enqueues the tasks of a set, a page at a time.
func (c *Carrier) release(ctx context.Context, flow, head string, words []int64) error {
	number, start := words[0], words[1]
	set, ok, err := c.set(ctx, flow, number)
	if err != nil {
		return err
	}
	until := set.size
	if len(words) > 2 {
		until = min(until, start+words[2])
	}
	if !ok || start >= until {
		return c.advance(ctx, flow, head, advance{})
	}
	queue, err := c.queueOf(ctx, flow, set)
	if err != nil {
		return err
	}
	count := min(page, until-start)
	a := advance{}
	if start+count < until {
		a.rest = fmt.Sprintf("R%d %d %d", number, start+count, until-start-count)
	}
	near := c.store.Reaches(queue.Queue) && !set.has("p")
	if near && set.has("b") {
		a.bodies, a.queue, a.from, a.count = c.store.Keys.Bodies(flow, number), queue.Queue, start, count
		return c.advance(ctx, flow, head, a)
	}
	tasks, err := c.tasks(ctx, flow, set, number, start, count)
	if err != nil {
		return err
	}
	if near {
		a.queue, a.tasks = queue.Queue, tasks
		return c.advance(ctx, flow, head, a)
	}
	var told []string
	for i, data := range tasks {
		why, err := c.submit(ctx, queue, data)
		if err != nil {
			return err
		}
		if why != "" {
			told = append(told, fmt.Sprintf("e%d %d f %s", number, set.first+start+int64(i), failure("duplicate", why)))
		}
	}
	a.told = told
	return c.advance(ctx, flow, head, a)
}

func (c *Carrier) tasks(ctx context.Context, flow string, set nodeSet, number, start, count int64) (tasks []string, err error) {
	command := []string{"LRANGE", c.store.Keys.Bodies(flow, number), rdb.Decimal(start), rdb.Decimal(start + count - 1)}
	if !set.has("b") {
		command = []string{"HMGET", c.store.Keys.Flow(flow)}
		for index := set.first + start; index < set.first+start+count; index++ {
			command = append(command, "t"+rdb.Decimal(index))
		}
	}
	found, err := c.values(ctx, command...)
	for _, data := range found {
		if data != nil {
			tasks = append(tasks, string(data))
		}
	}
	return tasks, err
}

// submit enqueues a task that asks for more than a place in the queue, or whose queue is on another node; a second time does nothing. why
// is what keeps it from that.
func (c *Carrier) submit(ctx context.Context, k rdb.Keys, data string) (why string, err error) {
	_, headers, _ := wire.Peek([]byte(data))
	to := k.Tail()
	if group, grouped := headers.Text(wire.Group); grouped {
		to = k.GroupTail(group)
	}
	unique, mode, bound := headers.UniqueKey()
	if mode == wire.WhileRunning {
		bound = 0
	}
	id := headers.TrackedID()
	store := c.store.At(k)
	keys := []string{to.List, to.Announces, k.Scheduled, k.Wake, k.Task(id), k.Unique(unique)}
	reply, err := c.add(ctx, store, "submit", keys, data, id, "0", "0", rdb.Milliseconds(rdb.TrackedFor), rdb.Decimal(max(bound, 0)), to.Word)
	values, _ := reply.([]any)
	if err != nil || len(values) != 2 {
		return "", err
	}
	switch string(rdb.Bulk(values[0])) {
	case "first":
		store.GiveTurn(ctx, to.Word)
	case "duplicate":
		return fmt.Sprintf("task %s has its unique key", rdb.Bulk(values[1])), nil
	}
	return "", nil
}

func (c *Carrier) tell(ctx context.Context, flow string, entries []string) error {
	for _, entry := range entries {
		if err := c.store.TellFlow(ctx, flow, entry); err != nil {
			return err
		}
	}
	return nil
}

// failure is how a node has failed, as results are stored.
func failure(kind, message string) string {
	packed := wire.AppendArray(nil, 4)
	for _, word := range []string{"failed", kind, message, ""} {
		packed = wire.AppendString(packed, word)
	}
	return string(packed)
}
