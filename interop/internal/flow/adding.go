package flow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/delayedq/delayed/interop/internal/errs"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const mostAdded = 1000 // nodes that are added at once

// ErrSuperseded says that a task has been taken from its worker, or that its workflow is being stopped: nothing was added.
var ErrSuperseded = errors.New("the task was taken from its worker, or its workflow is being stopped: nothing was added")

// Addition is what a node that runs adds to its workflow, beside itself.
type Addition struct {
	Member     rdb.Member // the node
	Processing string     // the key under which its queue has what is held
	Lease      string     // the name of that under which its worker holds it
	Name       string     // under which it is known what the node has added
	Count      int64      // which of its additions this is, if it has no name
}

// Append adds nodes. draw puts them together, counted from these numbers, with the policy of the workflow. It returns false if they had
// been added before.
func (c *Carrier) Append(ctx context.Context, a Addition, draw func(Base, string) (*Graph, error)) (bool, error) {
	flow := a.Member.Flow
	own, policy, err := c.beside(ctx, flow, a.Member.Set)
	if err != nil {
		return false, err
	}
	graph, err := draw(Base{}, policy)
	if err != nil {
		return false, err
	}
	sets, gates, nodes := graph.Sizes()
	if nodes < 1 || nodes > mostAdded {
		return false, fmt.Errorf("%w: a node may add 1 to %d nodes at once, not %d: add a map, or groups one after another",
			errs.ErrInvalidTask, mostAdded, nodes)
	}
	var base Base
	for _, each := range []struct {
		name string
		size int64
		to   *int64
	}{{"sets", sets, &base.Sets}, {"gates", gates, &base.Gates}, {"next", nodes, &base.Nodes}} {
		reply, err := c.store.Caller.Call(ctx, "HINCRBY", c.store.Keys.Flow(flow), each.name, rdb.Decimal(each.size))
		if err != nil {
			return false, err
		}
		next, _ := reply.(int64)
		*each.to = next - each.size
	}
	if graph, err = draw(base, policy); err != nil {
		return false, err
	}
	return c.append(ctx, a, graph, own)
}

// beside is the set of a node that adds some, and the policy of its workflow.
func (c *Carrier) beside(ctx context.Context, flow string, number int64) (own nodeSet, policy string, err error) {
	found, err := c.Fields(ctx, flow, "s"+rdb.Decimal(number), "policy")
	if err != nil {
		return nodeSet{}, "", err
	}
	own, ok := setOf(found[0])
	if !ok {
		return nodeSet{}, "", ErrSuperseded
	}
	if policy = string(found[1]); !isPolicy(policy) { // no version of ours has written it
		policy = "stop"
	}
	return own, policy, nil
}

func (c *Carrier) append(ctx context.Context, a Addition, graph *Graph, own nodeSet) (bool, error) {
	k, flow := c.store.Keys, a.Member.Flow
	names, err := c.learn(ctx, flow)
	if err != nil {
		return false, err
	}
	l := NewLayout(graph, k.Queue, flow, names)
	if len(l.Queues) > len(names) {
		return false, fmt.Errorf("%w: a node can add tasks to the queues that its workflow has: %s", errs.ErrInvalidTask,
			strings.Join(names, ", "))
	}
	fields, ready, err := l.added(a.Member.Set, own)
	if err != nil {
		return false, err
	}
	field := fmt.Sprintf("a%d:%s", a.Member.Node, a.Name)
	if a.Count > 0 {
		field = fmt.Sprintf("a%d#%d", a.Member.Node, a.Count)
	}
	first := rdb.Decimal(graph.blocks[0].First)
	reply, err := c.add(ctx, c.store, "flow_add", []string{a.Processing, k.Flow(flow), k.Joins(flow), k.FlowOutbox},
		slices.Concat([]string{flow, a.Lease, field, first, strconv.Itoa(len(fields))}, fields, ready)...)
	if err != nil {
		return false, err
	}
	values, _ := reply.([]any)
	if len(values) == 0 || values[0] == int64(0) {
		return false, ErrSuperseded
	}
	return values[0] == int64(1), nil
}

// added are the fields by which nodes join a workflow that runs, beside a node of a set: what waits for that one waits for these, too, and
// finds their results; and which of them begin.
func (l *Layout) added(number int64, own nodeSet) (fields, ready []string, err error) {
	_, _, nodes := l.Graph.Sizes()
	ends := l.Graph.Ends()
	fields = []string{"queues", l.packedQueues(), "+left", rdb.Decimal(nodes), "+total", rdb.Decimal(nodes)}
	last := map[string]bool{}
	for _, b := range ends {
		last["s"+rdb.Decimal(b.Number)] = true
	}
	drawn := l.fields()
	for i := 0; i < len(drawn); i += 2 {
		name, value := drawn[i], drawn[i+1]
		if found, ok := setOf([]byte(value)); last[name] && ok {
			flags := strings.ReplaceAll(found.flags, "-", "")
			if own.has("h") && !found.has("h") {
				flags += "h"
			}
			found.flags, found.outs = cmp.Or(flags, "-"), joined(found.outs, own.outs)
			value = found.packed()
		}
		fields = append(fields, name, value)
	}
	for _, gate := range numbers(own.outs) {
		fields = append(fields, "+n"+rdb.Decimal(gate), rdb.Decimal(sizeOf(ends)))
	}
	fields = append(fields, ">z"+rdb.Decimal(number), strings.ReplaceAll(numbersOf(ends), ",", " "))
	for _, b := range l.Graph.blocks {
		err := l.tasks(b, func(index int64, data []byte) error {
			fields = append(fields, "t"+rdb.Decimal(index), string(data))
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
		if b.gates == 0 {
			ready = append(ready, "i"+rdb.Decimal(b.Number))
		}
	}
	return fields, ready, nil
}

// joined are two lists with commas, of which either may be "-".
func joined(one, other string) string {
	switch {
	case one == "-":
		return other
	case other == "-":
		return one
	}
	return one + "," + other
}
