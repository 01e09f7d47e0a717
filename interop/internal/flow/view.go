package flow

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// Set is a set of nodes of a workflow, for who looks at it.
type Set struct {
	Number      int64
	Label       string // what people call it
	Queue       string // by its name
	First, Size int64  // index of its first node, and how many there are
	stored      nodeSet
}

// Sets are the sets of nodes of a workflow, read in pages. An error ends them.
func (c *Carrier) Sets(ctx context.Context, flow string) iter.Seq2[Set, error] {
	return func(yield func(Set, error) bool) {
		names, err := c.learn(ctx, flow)
		if err != nil {
			yield(Set{}, err)
			return
		}
		found, err := c.field(ctx, flow, "sets")
		count, _ := strconv.ParseInt(string(found), 10, 64) //nolint:errcheck // it is gone
		for from := int64(0); err == nil && from < count; from += page {
			command := []string{"HMGET", c.store.Keys.Flow(flow)}
			for number := from; number < min(from+page, count); number++ {
				command = append(command, "s"+rdb.Decimal(number), "l"+rdb.Decimal(number))
			}
			var records [][]byte
			if records, err = c.values(ctx, command...); err != nil {
				break
			}
			for i := 0; i+1 < len(records); i += 2 {
				stored, ok := setOf(records[i])
				if !ok {
					continue // of what somebody was about to add there may be a gap
				}
				s := Set{Number: from + int64(i/2), Label: string(records[i+1]), First: stored.first, Size: stored.size, stored: stored}
				if stored.queue > 0 && stored.queue <= len(names) {
					s.Queue = names[stored.queue-1]
				}
				if !yield(s, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(Set{}, err)
		}
	}
}

// Marks are those of some nodes, a page at most: NUL for those that wait.
func (c *Carrier) Marks(ctx context.Context, flow string, first, count int64) ([]byte, error) {
	reply, err := c.store.Caller.Call(ctx, c.marks(flow, first, count)...)
	marks := make([]byte, count)
	copy(marks, rdb.Bulk(reply))
	return marks, err
}

func (c *Carrier) marks(flow string, first, count int64) []string {
	return []string{"GETRANGE", c.store.Keys.Marks(flow), rdb.Decimal(first), rdb.Decimal(first + count - 1)}
}

// Result is what has become of one node: its mark, and its result as results are stored, or nil.
type Result struct {
	Index int64
	Mark  byte
	Data  []byte
}

// Results are those of some nodes, in this order, read in pages. An error ends them.
func (c *Carrier) Results(ctx context.Context, flow string, indices []int64) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		for rest := indices; len(rest) > 0; {
			some := rest[:min(page, len(rest))]
			rest = rest[len(some):]
			found, err := c.someResults(ctx, flow, some)
			if err != nil {
				yield(Result{}, err)
				return
			}
			for _, each := range found {
				if !yield(each, nil) {
					return
				}
			}
		}
	}
}

func (c *Carrier) someResults(ctx context.Context, flow string, some []int64) ([]Result, error) {
	first, last := some[0], some[0]
	command := []string{"HMGET", c.store.Keys.Flow(flow)}
	for _, index := range some {
		first, last = min(first, index), max(last, index)
		command = append(command, "r"+rdb.Decimal(index))
	}
	replies, err := c.store.Batch(ctx, 0, command, c.marks(flow, first, last-first+1)) // in one round trip
	if err != nil {
		return nil, err
	}
	if err := errors.Join(rdb.FailureIn(replies[0]), rdb.FailureIn(replies[1])); err != nil {
		return nil, err
	}
	values, _ := replies[0].([]any)
	marks := rdb.Bulk(replies[1])
	found := make([]Result, len(some))
	for i, index := range some {
		found[i] = Result{Index: index}
		if at := index - first; at < int64(len(marks)) {
			found[i].Mark = marks[at]
		}
		if i < len(values) {
			found[i].Data = rdb.Bulk(values[i])
		}
	}
	return found, nil
}

// Fields are some of the fields of a workflow; nil for those that are not there.
func (c *Carrier) Fields(ctx context.Context, flow string, names ...string) ([][]byte, error) {
	found, err := c.values(ctx, append([]string{"HMGET", c.store.Keys.Flow(flow)}, names...)...)
	if err == nil && len(found) != len(names) {
		found = make([][]byte, len(names))
	}
	return found, err
}

// numbers are those in a list of them with commas, or none in "-".
func numbers(list string) (found []int64) {
	for each := range strings.SplitSeq(list, ",") {
		if n, err := strconv.ParseInt(each, 10, 64); err == nil {
			found = append(found, n)
		}
	}
	return found
}
