package flow

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// listedFrom is the size of a set up to which each task has a field; where there are more, they are in a list.
const listedFrom = 1000

// Layout is how a workflow is stored: the fields of its hash, as lua/flow_join.lua reads them. See docs/protocol.md, section 7e.
type Layout struct {
	Graph  *Graph   // whose nodes have their numbers
	Home   string   // the queue that has the workflow's keys, by its name
	Flow   string   // its id
	Queues []string // their names; see NewLayout
	Now    time.Time
	Sender string // a token: pages of others are refused
	Unique string // the digest of its unique key, if it has one
}

// NewLayout is that of a graph whose nodes have their numbers. Queues that are new are added to those that the workflow has.
func NewLayout(g *Graph, home, flow string, queues []string) *Layout {
	l := &Layout{Graph: g, Home: home, Flow: flow, Queues: slices.Clone(queues), Now: time.Now(), Sender: rdb.Token()}
	for _, b := range g.blocks {
		if !slices.Contains(l.Queues, b.queue) {
			l.Queues = append(l.Queues, b.queue)
		}
	}
	return l
}

// fields are those of the sets and gates: names and values.
func (l *Layout) fields() (fields []string) {
	for _, b := range l.Graph.blocks {
		number := rdb.Decimal(b.Number)
		fields = append(fields, "s"+number, l.set(b).packed(), "l"+number, b.label)
		if b.gates > 0 {
			fields = append(fields, "w"+number, strconv.Itoa(b.gates))
		}
		if b.previous != nil {
			kind := "v"
			if b.listed {
				kind = "l"
			}
			fields = append(fields, "p"+number, kind+numbersOf(b.previous))
		}
		if b.wait != "" {
			fields = append(fields, "y"+number, b.wait)
		}
	}
	for _, g := range l.Graph.gates {
		number := rdb.Decimal(g.number)
		fields = append(fields, "g"+number, g.packed(), "n"+number, rdb.Decimal(sizeOf(g.sources)))
	}
	return fields
}

func (g *gate) packed() string {
	maps := ""
	if strings.Contains(quorums, g.mode) {
		maps = numbersOf(slices.DeleteFunc(slices.Clone(g.sources), func(b *Block) bool { return b.kind != "m" }))
	}
	return strings.TrimSpace(fmt.Sprintf("%s %d %s %s", g.mode, g.need, cmp.Or(numbersOf(g.targets), "-"), maps))
}

func (l *Layout) set(b *Block) nodeSet {
	flags, outs := "", make([]string, len(b.outs))
	if l.Graph.counts() {
		flags = "h"
	}
	for i, out := range b.outs {
		if strings.Contains("qn", out.mode) { // a failure of its nodes is provided for
			flags = "h"
		}
		outs[i] = rdb.Decimal(out.number)
	}
	if b.Size > listedFrom {
		flags += "b"
	}
	if slices.ContainsFunc(b.tasks, Task.Alone) {
		flags += "p"
	}
	return nodeSet{b.First, b.Size, slices.Index(l.Queues, b.queue) + 1, b.kind, cmp.Or(flags, "-"), cmp.Or(strings.Join(outs, ","), "-")}
}

// tasks gives each task of a set to next, as it goes to its queue.
func (l *Layout) tasks(b *Block, next func(index int64, data []byte) error) error {
	for i, task := range b.tasks {
		index := b.First + int64(i)
		data, err := task.Node(l.Home, b.Number, rdb.NodeID(l.Flow, index), l.Now)
		if err == nil {
			err = next(index, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Layout) packedQueues() string {
	packed := wire.AppendArray(nil, len(l.Queues))
	for _, name := range l.Queues {
		packed = wire.AppendString(packed, name)
	}
	return string(packed)
}

func sizeOf(blocks []*Block) (size int64) {
	for _, b := range blocks {
		size += b.Size
	}
	return size
}
