package flow

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/delayedq/delayed/interop/internal/errs"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

// Patience is the time after which a workflow is removed of which no further page has come.
var Patience = time.Hour

const (
	pageBytes = 1 << 20   // of the tasks of a page, at most
	pageParts = 16 * page // names and values of a page, at most: a node with a set, a gate and an edge of its own has fourteen
)

// ErrTooSlow says that a workflow was removed before it was whole.
var ErrTooSlow = errors.New("it was removed before it was whole: no page came for an hour")

// Known says that a workflow has a unique key, so that nothing was created.
type Known struct{ ID string }

func (k *Known) Error() string { return "workflow " + k.ID + " has its key" }

// DigestOf is what names the unique key of a workflow: tasks may have the same one.
func DigestOf(unique string) string { return rdb.Digest("workflow:" + unique) }

// part is one page of a workflow that is being stored.
type part struct {
	fields []string // names and values
	tasks  []string // of one large set, …
	set    int64    // … which is this; below 0 for none
}

// builder stores a workflow, page by page: each when the next one is known, as the last one starts it.
type builder struct {
	carrier *Carrier
	layout  *Layout
	ready   []string // what is to be done first
	nodes   int64
	pending *part
	begun   bool
}

// Store stores a workflow, whole or in pages, of which the last one starts it; about are further fields: names and values.
func (c *Carrier) Store(ctx context.Context, l *Layout, about []string) error {
	sets, gates, nodes := l.Graph.Sizes()
	counted := int64(0)
	b := &builder{carrier: c, layout: l, nodes: nodes}
	for _, block := range l.Graph.blocks {
		if block.kind == "c" {
			continue
		}
		counted += block.Size
		if block.gates == 0 {
			b.ready = append(b.ready, "i"+rdb.Decimal(block.Number))
		}
	}
	total := rdb.Decimal(counted)
	fields := append(about, "total", total, "left", total, "next", rdb.Decimal(nodes), "sets", rdb.Decimal(sets), "gates", rdb.Decimal(gates),
		"queues", l.packedQueues())
	err := b.build(ctx, append(fields, l.fields()...))
	switch {
	case err == nil:
		return b.send(ctx, b.pending, true)
	case b.begun && errors.Is(err, errs.ErrInvalidTask): // one of a later page cannot be sent
		return errors.Join(err, b.undo(ctx))
	}
	return err
}

// undo removes what has been stored.
func (b *builder) undo(ctx context.Context) error {
	l := b.layout
	var lists []string
	for _, block := range l.Graph.blocks {
		if block.Size > listedFrom {
			lists = append(lists, b.carrier.store.Keys.Bodies(l.Flow, block.Number))
		}
	}
	_, err := b.carrier.discard(ctx, l.Flow, lists, l.Unique, l.Flow+" B", l.Sender, "0")
	return err
}

// discard removes what is stored of a workflow, unless it goes on, or somebody else builds it. lists are those of its large sets, unique
// names its unique key, if it has one; timer, sender and unwanted: see flow_remove. It returns whether it was removed.
func (c *Carrier) discard(ctx context.Context, flow string, lists []string, unique, timer, sender, unwanted string) (bool, error) {
	keys, owned := append(common(c.store.Keys, flow), lists...), "0"
	if unique != "" {
		keys, owned = append(keys, c.store.Keys.UniqueBy(unique)), "1"
	}
	reply, err := c.store.Run(ctx, "flow_remove", keys, flow, timer, sender, owned, unwanted)
	return reply == int64(1), err
}

// common are the keys that scripts of a whole workflow begin with.
func common(k rdb.Keys, flow string) []string {
	return []string{k.Flow(flow), k.Marks(flow), k.Joins(flow), k.FlowOutbox, k.FlowIDs, k.FlowDue}
}

// build makes the pages.
func (b *builder) build(ctx context.Context, fields []string) error {
	nodes, size := 0, 0
	flush := func() error {
		some := fields
		fields, nodes, size = nil, 0, 0
		for len(some) > 0 {
			n := min(pageParts, len(some))
			if err := b.page(ctx, &part{fields: some[:n], set: -1}); err != nil {
				return err
			}
			some = some[n:]
		}
		return nil
	}
	for _, block := range b.layout.Graph.blocks {
		if block.Size > listedFrom {
			err := flush()
			if err == nil {
				err = b.listed(ctx, block)
			}
			if err != nil {
				return err
			}
			continue
		}
		err := b.layout.tasks(block, func(index int64, data []byte) error {
			if nodes == page || size > pageBytes {
				if err := flush(); err != nil {
					return err
				}
			}
			fields = append(fields, "t"+rdb.Decimal(index), string(data))
			nodes, size = nodes+1, size+len(data)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(fields) == 0 {
		fields = []string{"listed", "1"}
	}
	return flush()
}

// listed are the pages of a large set, whose tasks are in a list.
func (b *builder) listed(ctx context.Context, block *Block) error {
	var some []string
	size := 0
	flush := func() error {
		if len(some) == 0 {
			return nil
		}
		p := &part{tasks: some, set: block.Number}
		some, size = nil, 0
		return b.page(ctx, p)
	}
	err := b.layout.tasks(block, func(_ int64, data []byte) error {
		some = append(some, string(data))
		size += len(data)
		if len(some) == page || size > pageBytes {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

func (b *builder) page(ctx context.Context, next *part) error {
	last := b.pending
	b.pending = next
	if last == nil {
		return nil
	}
	return b.send(ctx, last, false)
}

func (b *builder) send(ctx context.Context, p *part, last bool) error {
	k, flow := b.carrier.store.Keys, b.layout.Flow
	step, words := "more", []string(nil)
	switch {
	case last && !b.begun:
		step, words = "whole", b.ready
	case last:
		step, words = "last", b.ready
	case !b.begun:
		step = "first"
	}
	bodies := k.Flow(flow)
	if p.set >= 0 {
		bodies = k.Bodies(flow, p.set)
	}
	keys := append(common(k, flow), k.Task(rdb.NodeID(flow, -1)), bodies)
	if !b.begun && b.layout.Unique != "" {
		keys = append(keys, k.UniqueBy(b.layout.Unique))
	}
	args := []string{flow, b.layout.Sender, step, rdb.Milliseconds(Patience), rdb.Decimal(b.nodes), strconv.Itoa(len(p.fields)), strconv.Itoa(len(p.tasks))}
	args = append(append(append(args, p.fields...), p.tasks...), words...)
	reply, err := b.carrier.add(ctx, b.carrier.store, "flow_build", keys, args...)
	if err != nil {
		return err
	}
	if owner := rdb.Bulk(reply); owner != nil {
		return &Known{string(owner)}
	}
	if reply != int64(1) {
		return ErrTooSlow
	}
	b.begun = true
	return nil
}
