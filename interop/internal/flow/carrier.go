// Package flow carries on what has happened in workflows: joins, and what is too much for one call of a script, page by page.
//
// Whatever stands in the outbox of a queue may be carried on by anybody, at any time, and again: the worker that has ended a node does so
// at once, and what it has not done because it was killed, a sweeper does.
package flow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	stepsOfJoin = "500" // entries that one call of the join deals with
	page        = 1000  // nodes in one step
	flows       = 100   // workflows that one look into the outbox finds
	mostKnown   = 1000  // workflows whose queues are remembered
)

var isFlow = regexp.MustCompile(`^[A-Za-z0-9_-]{10}$`).MatchString

// Carrier carries on workflows whose home is one queue. It is for one goroutine.
type Carrier struct {
	store  *rdb.Store
	add    Adder
	queues map[string][]string // of workflows
}

// Adder runs a script that adds tasks, or stores what will become some, for a queue, and returns when they are as durable as they shall be.
type Adder func(ctx context.Context, store *rdb.Store, name string, keys []string, args ...string) (any, error)

// NewCarrier is one for the queue of store, through whichever connection; nil as add waits for nothing.
func NewCarrier(store *rdb.Store, add Adder) *Carrier {
	if add == nil {
		add = func(ctx context.Context, store *rdb.Store, name string, keys []string, args ...string) (any, error) {
			return store.Run(ctx, name, keys, args...)
		}
	}
	return &Carrier{store, add, map[string][]string{}}
}

// nodeSet is a set of nodes, as it is stored.
type nodeSet struct {
	first, size int64
	queue       int // which of the workflow's queues, counted from 1
	kind, flags string
	outs        string // gates
}

func (n nodeSet) has(flag string) bool { return strings.Contains(n.flags, flag) }

func (n nodeSet) packed() string {
	return fmt.Sprintf("%d %d %d %s %s %s", n.first, n.size, n.queue, n.kind, n.flags, n.outs)
}

func setOf(record []byte) (n nodeSet, ok bool) {
	count, err := fmt.Sscanf(string(record), "%d %d %d %s %s %s", &n.first, &n.size, &n.queue, &n.kind, &n.flags, &n.outs)
	return n, err == nil && count == 6
}

// CarryAll carries on all that stands in the outbox, until then at most.
func (c *Carrier) CarryAll(ctx context.Context, until time.Time) (refused error) {
	for time.Now().Before(until) {
		waiting, err := c.values(ctx, "LRANGE", c.store.Keys.FlowOutbox, "0", strconv.Itoa(flows-1))
		if err != nil || len(waiting) == 0 {
			return err
		}
		seen, done := map[string]bool{}, false
		for _, each := range waiting {
			entry := string(each)
			if seen[entry] {
				continue
			}
			seen[entry] = true
			some, err := c.carryEntry(ctx, entry, until)
			if err != nil && !ofOne(err) {
				return err
			}
			refused = cmp.Or(refused, err) // others go on
			done = done || some && err == nil
		}
		if !done {
			return refused
		}
	}
	return refused
}

// errNoFlow says that what is stored of a workflow cannot be.
var errNoFlow = errors.New("delayed: what is stored of a workflow is none")

// ofOne reports whether an error is about one workflow, so that others can go on: another program uses one of its keys, or has written there.
func ofOne(err error) bool { return rdb.IsTypeError(err) || errors.Is(err, errNoFlow) }

func (c *Carrier) carryEntry(ctx context.Context, entry string, until time.Time) (done bool, err error) {
	switch {
	case strings.HasPrefix(entry, "@"):
		return true, c.deliver(ctx, entry)
	case isFlow(entry):
		return c.Carry(ctx, entry, until)
	}
	_, err = c.store.Caller.Call(ctx, "LREM", c.store.Keys.FlowOutbox, "0", entry) // nobody's
	return true, err
}

// Carry carries on one workflow, until then at most. It returns whether there is nothing left to do.
func (c *Carrier) Carry(ctx context.Context, flow string, until time.Time) (done bool, err error) {
	head, err := c.join(ctx, flow)
	for err == nil && head != "" && time.Now().Before(until) {
		if head != "more" {
			if err = c.step(ctx, flow, head); err != nil {
				return false, err
			}
		}
		head, err = c.join(ctx, flow)
	}
	return err == nil && head == "", err
}

func (c *Carrier) join(ctx context.Context, flow string) (head string, err error) {
	names, known := c.queues[flow]
	if !known {
		if names, err = c.learn(ctx, flow); err != nil {
			return "", err
		}
	}
	k := c.store.Keys
	keys := append(common(k, flow), k.Task(rdb.NodeID(flow, -1)), k.Wake)
	for _, name := range names {
		if !c.store.Reaches(name) {
			break // the first of the queues, as many as a script may touch
		}
		keys = append(keys, name, name+"_noti")
	}
	reply, err := c.store.Run(ctx, "flow_join", keys, flow, stepsOfJoin)
	if values, _ := reply.([]any); len(values) > 0 {
		head = string(rdb.Bulk(values[0]))
	}
	return head, err
}

// learn reads the names of a workflow's queues, in its order.
func (c *Carrier) learn(ctx context.Context, flow string) ([]string, error) {
	found, err := c.field(ctx, flow, "queues")
	if err != nil || found == nil {
		return nil, err
	}
	if len(c.queues) >= mostKnown {
		clear(c.queues)
	}
	list, _ := wire.Scalars(found, 0).([]any)
	names := make([]string, len(list))
	for i, each := range list {
		names[i], _ = each.(string)
	}
	c.queues[flow] = names
	return names, nil
}

// deliver says in the home of a workflow, on another node of the cluster, what has happened here.
func (c *Carrier) deliver(ctx context.Context, entry string) error {
	data := []byte(entry[1:])
	if home, flow, said, ok := delivery(data); ok {
		if keys, err := rdb.NewKeys(home); err == nil {
			there := c.store.At(keys)
			if err := there.TellFlow(ctx, flow, said); err != nil {
				return err
			}
			if _, err := NewCarrier(there, c.add).Carry(ctx, flow, time.Now().Add(time.Second)); err != nil {
				return err
			}
		}
	}
	_, err := c.store.Caller.Call(ctx, "LREM", c.store.Keys.FlowOutbox, "1", entry)
	return err
}

// delivery reads home, workflow and entry; what follows is the end of the entry, which a script has added.
func delivery(data []byte) (home, flow, said string, ok bool) {
	whole, err := wire.HeadAt(data, 0)
	if err != nil || whole.Kind != wire.KindArray || whole.Values != 3 {
		return "", "", "", false
	}
	var words [3]string
	at := whole.Body
	for i := range words {
		head, err := wire.HeadAt(data, at)
		if err != nil || head.Kind != wire.KindString && head.Kind != wire.KindBytes {
			return "", "", "", false
		}
		words[i] = string(data[head.Body : head.Body+head.Size])
		at = head.Body + head.Size
	}
	return words[0], words[1], words[2] + string(data[at:]), isFlow(words[1])
}

// values is a reply that is a list.
func (c *Carrier) values(ctx context.Context, command ...string) ([][]byte, error) {
	reply, err := c.store.Caller.Call(ctx, command...)
	list, _ := reply.([]any)
	found := make([][]byte, len(list))
	for i, each := range list {
		found[i] = rdb.Bulk(each)
	}
	return found, err
}

// field is a field of a workflow; nil if it is not there.
func (c *Carrier) field(ctx context.Context, flow, name string) ([]byte, error) {
	found, err := c.values(ctx, "HMGET", c.store.Keys.Flow(flow), name)
	if err != nil || len(found) != 1 {
		return nil, err
	}
	return found[0], nil
}
