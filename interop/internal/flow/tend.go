package flow

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

const (
	mostTended = 100                    // of each kind, in one look
	slice      = 500 * time.Millisecond // for the workflows of a queue, before other things have their turn
)

// Tend does what a sweeper does for the workflows whose home is a queue: it carries on what nobody has, ends what waits in vain, and
// forgets what has ended. It returns the time until there is more; below 0 if nothing is known to come.
func Tend(ctx context.Context, store *rdb.Store, add Adder) (time.Duration, error) {
	carrier, until := NewCarrier(store, add), time.Now().Add(slice)
	for {
		look, err := store.LookAtFlows(ctx, mostTended)
		if err != nil {
			return -1, err
		}
		if err := carrier.tend(ctx, look, until); err != nil {
			return -1, err
		}
		switch {
		case look.Waiting+len(look.Due)+len(look.Forgotten) == 0:
			return look.Pause, nil
		case time.Now().After(until):
			return 0, nil
		}
	}
}

// tend does what one look has found. What is wrong with one workflow keeps no other from going on.
func (c *Carrier) tend(ctx context.Context, look rdb.FlowLook, until time.Time) (refused error) {
	goesOn := func(err error) bool {
		refused = cmp.Or(refused, err)
		return err == nil || ofOne(err)
	}
	if look.Waiting > 0 && !goesOn(c.CarryAll(ctx, until)) {
		return refused
	}
	for _, timer := range look.Due {
		if !goesOn(c.isOver(ctx, timer, until)) {
			return refused
		}
	}
	for _, flow := range look.Forgotten {
		if _, err := c.remove(ctx, flow, "", false); !goesOn(err) {
			return refused
		}
	}
	return refused
}

// isOver: the time for which a node waits, or for which a workflow is being built, is over.
func (c *Carrier) isOver(ctx context.Context, timer string, until time.Time) error {
	flow, what, _ := strings.Cut(timer, " ")
	if what == "B" {
		_, err := c.remove(ctx, flow, timer, false)
		return err
	}
	there, err := c.store.FlowTimer(ctx, flow, what, timer)
	if err == nil && there {
		_, err = c.Carry(ctx, flow, until)
	}
	return err
}

// Forget removes a workflow that has ended, with its own state, before it is forgotten. It returns false if something of it is left to be
// carried on.
func (c *Carrier) Forget(ctx context.Context, flow string) (bool, error) {
	return c.remove(ctx, flow, "", true)
}

// remove removes what is left of a workflow, unless it goes on, or is still kept and not unwanted. It returns whether it was removed.
func (c *Carrier) remove(ctx context.Context, flow, timer string, unwanted bool) (bool, error) {
	k := c.store.Keys
	found, err := c.Fields(ctx, flow, "sets", "unique")
	if err != nil {
		return false, err
	}
	count, _ := strconv.ParseInt(string(found[0]), 10, 64) //nolint:errcheck // it is gone
	var lists []string
	word := "0"
	if unwanted {
		lists, word = append(lists, k.Task(rdb.NodeID(flow, -1))), "1"
	}
	for from := int64(0); from < count; from += page {
		command := []string{"HMGET", k.Flow(flow)}
		for number := from; number < min(from+page, count); number++ {
			command = append(command, "s"+rdb.Decimal(number))
		}
		records, err := c.values(ctx, command...)
		if err != nil {
			return false, err
		}
		for i, record := range records {
			if set, ok := setOf(record); ok && set.has("b") {
				lists = append(lists, k.Bodies(flow, from+int64(i)))
			}
		}
	}
	return c.discard(ctx, flow, lists, string(found[1]), timer, "", word)
}
