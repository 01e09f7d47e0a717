package flow

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// expand makes the nodes of a map, a page at a time, now that there is a result to map over.
func (c *Carrier) expand(ctx context.Context, flow, head string, words []int64) error {
	number, start := words[0], words[1]
	set, ok, err := c.set(ctx, flow, number)
	if err != nil {
		return err
	}
	if !ok || set.kind != "m" {
		return c.advance(ctx, flow, head, advance{})
	}
	from, err := c.elementsOf(ctx, flow, number)
	if err != nil {
		return err
	}
	if len(words) < 4 {
		return c.begin(ctx, flow, head, number, set, from)
	}
	first, size := words[2], words[3]
	if count := min(page, size-start); count > 0 {
		tasks, err := c.mapped(ctx, flow, set, from, first, start, count)
		if err != nil {
			return err
		}
		rest := fmt.Sprintf("M%d %d %d %d", number, start+count, first, size)
		return c.advance(ctx, flow, head, advance{rest: rest, bodies: c.store.Keys.Bodies(flow, number), tasks: tasks})
	}
	outs, stood := set.outs, set.first
	set.first, set.size, set.kind = first, size, "t"
	set.flags = "b" + strings.NewReplacer("-", "", "b", "").Replace(set.flags)
	fields := []string{fmt.Sprintf("s%d", number), set.packed(), "r" + rdb.Decimal(stood), ""} // the node that stood for them is none any more
	more := rdb.Decimal(size - 1)
	fields = append(fields, "+left", more, "+total", more)
	for gate := range strings.SplitSeq(outs, ",") {
		if gate != "-" {
			fields = append(fields, "+n"+gate, more)
		}
	}
	return c.advance(ctx, flow, head, advance{rest: fmt.Sprintf("i%d", number), fields: fields})
}

// begin gives the nodes of a map their numbers.
func (c *Carrier) begin(ctx context.Context, flow, head string, number int64, set nodeSet, from elements) error {
	size, ok, err := from.len(ctx, c)
	if err != nil {
		return err
	}
	if !ok {
		why := fmt.Sprintf("e%d %d f %s", number, set.first, failure("map", "what it maps over is no list"))
		return c.advance(ctx, flow, head, advance{rest: why})
	}
	reply, err := c.store.Caller.Call(ctx, "HINCRBY", c.store.Keys.Flow(flow), "next", rdb.Decimal(size))
	next, _ := reply.(int64)
	if err != nil {
		return err
	}
	return c.advance(ctx, flow, head, advance{rest: fmt.Sprintf("M%d 0 %d %d", number, next-size, size)})
}

func (c *Carrier) mapped(ctx context.Context, flow string, set nodeSet, from elements, first, start, count int64) ([]string, error) {
	template, err := c.field(ctx, flow, "t"+rdb.Decimal(set.first))
	if err != nil {
		return nil, err
	}
	some, err := from.page(ctx, c, start, count)
	if err != nil {
		return nil, err
	}
	now := rdb.Epoch(time.Now())
	tasks := make([]string, len(some))
	for i, element := range some {
		data, err := wire.Mapped(template, rdb.NodeID(flow, first+start+int64(i)), now, element)
		if err != nil {
			return nil, fmt.Errorf("%w: workflow %s: %w", errNoFlow, flow, err)
		}
		tasks[i] = string(data)
	}
	return tasks, nil
}

// elements are what a map is made over: the elements of one result, or the results of a group.
type elements struct {
	flow    string
	many    bool
	indices []int64 // of the nodes
}

func (c *Carrier) elementsOf(ctx context.Context, flow string, number int64) (elements, error) {
	many, indices, err := c.Sources(ctx, flow, number)
	return elements{flow, many, indices}, err
}

func (e elements) len(ctx context.Context, c *Carrier) (size int64, ok bool, err error) {
	if e.many {
		return int64(len(e.indices)), true, nil
	}
	raw, ok, err := e.raw(ctx, c)
	return int64(len(raw)), ok, err
}

// page are some of them, in MessagePack.
func (e elements) page(ctx context.Context, c *Carrier, start, count int64) ([][]byte, error) {
	if !e.many {
		raw, _, err := e.raw(ctx, c)
		size := int64(len(raw))
		return raw[min(start, size):min(start+count, size)], err
	}
	command := []string{"HMGET", c.store.Keys.Flow(e.flow)}
	for _, index := range e.indices[start : start+count] {
		command = append(command, "r"+rdb.Decimal(index))
	}
	found, err := c.values(ctx, command...)
	for i, each := range found {
		found[i] = valueIn(each)
	}
	return found, err
}

func (e elements) raw(ctx context.Context, c *Carrier) (found [][]byte, ok bool, err error) {
	if len(e.indices) == 0 {
		return nil, false, nil
	}
	result, err := c.field(ctx, e.flow, "r"+rdb.Decimal(e.indices[0]))
	if err != nil {
		return nil, false, err
	}
	found, ok = wire.Elements(valueIn(result))
	return found, ok, nil
}

// Sources are the indices of the nodes whose results a set of nodes finds, in their order, and whether it finds a list: of those that it was
// defined with, and then of those that members of these have added.
func (c *Carrier) Sources(ctx context.Context, flow string, number int64) (many bool, indices []int64, err error) {
	previous, err := c.field(ctx, flow, "p"+rdb.Decimal(number))
	if err != nil || len(previous) == 0 {
		return false, nil, err
	}
	sets, seen := numbers(string(previous[1:])), map[int64]bool{}
	for _, each := range sets {
		seen[each] = true
	}
	for len(sets) > 0 { // which grows
		some := sets[:min(page, len(sets))]
		sets = sets[len(some):]
		command := []string{"HMGET", c.store.Keys.Flow(flow)}
		for _, each := range some {
			command = append(command, "s"+rdb.Decimal(each), "z"+rdb.Decimal(each))
		}
		records, err := c.values(ctx, command...)
		if err != nil {
			return false, nil, err
		}
		for i, record := range records {
			if i%2 == 1 {
				for _, each := range numbers(strings.ReplaceAll(string(record), " ", ",")) {
					if !seen[each] {
						seen[each] = true
						sets = append(sets, each)
					}
				}
			} else if set, ok := setOf(record); ok {
				for index := set.first; index < set.first+set.size; index++ {
					indices = append(indices, index)
				}
			}
		}
	}
	return previous[0] == 'l', indices, nil
}

// valueIn is the value in a result, in MessagePack; nil for one without.
func valueIn(result []byte) []byte {
	parts, ok := wire.Elements(result)
	if !ok || len(parts) != 2 {
		return wire.AppendNil(nil)
	}
	return parts[1]
}
