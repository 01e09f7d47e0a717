package delayed

import (
	"context"
	"sync"
	"time"

	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const (
	carrying   = 250 * time.Millisecond // the usual slice
	carryLimit = 2 * time.Second        // for Redis to answer meanwhile
)

// carriers carry on the workflows of which nodes have ended in this worker. What they leave, a sweeper does.
type carriers struct {
	mu    sync.Mutex
	told  map[toldFlow]struct{} // workflows of which nodes have ended since they were carried on last
	busy  bool                  // a goroutine carries them on: only that one uses the next
	known map[toldHome]*flow.Carrier
	slice time.Duration // for workflows between two tasks, at most
}

// toldHome is a queue with workflows, as a worker of another one reaches it.
type toldHome struct {
	pool *lease.Pool
	home string
}

type toldFlow struct {
	toldHome
	flow string
}

// nodeEnded carries on the workflow of a node, which has ended. One goroutine does it for all: for those who come meanwhile, too.
func (w *Worker) nodeEnded(pool *lease.Pool, member rdb.Member) {
	if !pool.Store.Reaches(member.Home) {
		return // a sweeper delivers it
	}
	c := &w.carriers
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == nil {
		c.told, c.known = map[toldFlow]struct{}{}, map[toldHome]*flow.Carrier{}
	}
	c.told[toldFlow{toldHome{pool, member.Home}, member.Flow}] = struct{}{}
	if c.busy {
		return
	}
	c.busy = true
	for until := time.Now().Add(c.slice); len(c.told) > 0 && time.Now().Before(until); {
		some := c.told
		c.told = map[toldFlow]struct{}{}
		c.mu.Unlock()
		var left []toldFlow
		for each := range some {
			done := true
			if err := guarded(func() (err error) { done, err = c.carry(w.queueOf(each.pool), each, until); return err }); err != nil {
				w.log.Warn("could not carry on a workflow; a sweeper will", "queue", each.home, "flow", rdb.NodeID(each.flow, -1), "error", err)
			} else if !done {
				left = append(left, each)
			}
		}
		c.mu.Lock()
		for _, each := range left { // after the next node, unless a sweeper is quicker
			c.told[each] = struct{}{}
		}
	}
	c.busy = false
}

func (c *carriers) carry(queue *Queue, each toldFlow, until time.Time) (done bool, err error) {
	carrier := c.known[each.toldHome]
	if carrier == nil {
		keys, err := rdb.NewKeys(each.home)
		if err != nil {
			return true, err
		}
		carrier = flow.NewCarrier(each.pool.Store.At(keys), queue.adder())
		c.known[each.toldHome] = carrier
	}
	ctx, cancel := context.WithTimeout(context.Background(), carryLimit)
	defer cancel()
	return carrier.Carry(ctx, each.flow, until)
}
