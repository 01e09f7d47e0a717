package flow

import (
	"context"
	"fmt"
	"strconv"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// cancelled is what those who wait for a node are told.
var cancelled = string(wire.AppendString(wire.AppendArray(nil, 1), "cancelled"))

// cancel cancels the nodes of a workflow that is being stopped, a page at a time: see flow_cancel.
func (c *Carrier) cancel(ctx context.Context, flow, head string, words []int64) error {
	number, start := words[0], words[1]
	command := []string{"HMGET", c.store.Keys.Flow(flow), "sets"}
	for at := range int64(page) {
		command = append(command, "s"+rdb.Decimal(number+at))
	}
	records, err := c.values(ctx, command...)
	if err != nil || len(records) != page+1 {
		return err
	}
	sets, _ := strconv.ParseInt(string(records[0]), 10, 64) //nolint:errcheck // it is gone, and nothing is left to do
	left := int64(page)
	for _, record := range records[1:] {
		set, ok := setOf(record) // of what somebody was about to add there may be a gap
		for ok && start < set.size && left > 0 {
			count := min(left, set.size-start)
			whole, err := c.cancelSome(ctx, flow, number, set, set.first+start, count)
			if err != nil {
				return err
			}
			start, left = start+count, left-count
			if whole {
				start = set.size
			}
		}
		if left <= 0 {
			break
		}
		number, start = number+1, 0
	}
	a := advance{}
	if number < sets {
		a.rest = fmt.Sprintf("C%d %d", number, start)
	}
	return c.advance(ctx, flow, head, a)
}

// cancelSome cancels some nodes of a set; whole: that was about all of it.
func (c *Carrier) cancelSome(ctx context.Context, flow string, number int64, set nodeSet, first, count int64) (whole bool, err error) {
	if set.kind == "c" {
		return true, nil
	}
	reply, err := c.store.Caller.Call(ctx, "GETRANGE", c.store.Keys.Marks(flow), rdb.Decimal(first), rdb.Decimal(first+count-1))
	if err != nil {
		return false, err
	}
	marks := make([]byte, count)
	copy(marks, rdb.Bulk(reply))
	if marks[0] == 0 {
		return true, c.tell(ctx, flow, []string{fmt.Sprintf("k%d", number)})
	}
	var released []int64
	for offset, mark := range marks {
		if mark == 'q' {
			released = append(released, first+int64(offset))
		}
	}
	switch {
	case len(released) == 0:
		return false, nil
	case set.kind == "t":
		return false, c.stopReleased(ctx, flow, number, set, released)
	}
	entries := make([]string, len(released))
	for i, index := range released {
		entries[i] = fmt.Sprintf("e%d %d c", number, index)
	}
	return false, c.tell(ctx, flow, entries)
}

// CancelNode cancels one node of a set: one that has been released, or waits alone.
func (c *Carrier) CancelNode(ctx context.Context, flow string, s Set, index int64) error {
	if s.stored.kind == "c" {
		s.stored.kind = "t"
	}
	_, err := c.cancelSome(ctx, flow, s.Number, s.stored, index, 1)
	return err
}

func (c *Carrier) stopReleased(ctx context.Context, flow string, number int64, set nodeSet, indices []int64) error {
	queue, err := c.queueOf(ctx, flow, set)
	if err != nil {
		return err
	}
	if !c.store.Reaches(queue.Queue) || set.has("p") { // those may have unique keys, which have to be freed
		store := c.store.At(queue)
		for _, index := range indices {
			if _, err := store.Cancel(ctx, rdb.NodeID(flow, index), []byte(cancelled), rdb.EndedFor, "1"); err != nil {
				return err
			}
		}
		return nil
	}
	k := c.store.Keys
	keys := []string{k.Marks(flow), k.Joins(flow), k.FlowOutbox}
	args := []string{flow, cancelled, rdb.Milliseconds(rdb.TrackedFor)}
	for _, index := range indices {
		keys = append(keys, queue.Task(rdb.NodeID(flow, index)))
		args = append(args, rdb.Decimal(number), rdb.Decimal(index))
	}
	_, err = c.store.Run(ctx, "flow_cancel", keys, args...)
	return err
}
