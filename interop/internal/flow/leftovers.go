package flow

import (
	"context"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	someTasks  = 100 // that are looked for at once: each look goes through the queue
	letterPage = 100 // dead letters in one question
)

// takeBack removes the tasks of cancelled nodes that still stand where they waited: else they would run beside those that are enqueued now.
func (c *Carrier) takeBack(ctx context.Context, flow string, p *plan, cancelled map[int64][]int64) error {
	for number, offsets := range cancelled {
		s := p.sets[number]
		keys, err := c.queueOf(ctx, flow, s.stored)
		if err != nil {
			return err
		}
		for at := 0; at < len(offsets); at += someTasks {
			if err := c.takeSomeBack(ctx, flow, s, c.store.At(keys), offsets[at:min(at+someTasks, len(offsets))]); err != nil {
				return err
			}
		}
	}
	_, err := c.Carry(ctx, flow, time.Now().Add(time.Minute)) // it hears of each once more, and has heard of it before
	return err
}

func (c *Carrier) takeSomeBack(ctx context.Context, flow string, s Set, there *rdb.Store, offsets []int64) error {
	waiting := map[string][][]byte{}
	for _, offset := range offsets {
		tasks, err := c.tasks(ctx, flow, s.stored, s.Number, offset, 1)
		if err != nil {
			return err
		}
		for _, data := range tasks {
			waiting[there.Keys.Queue] = append(waiting[there.Keys.Queue], []byte(data))
		}
		id := rdb.NodeID(flow, s.First+offset)
		reply, err := there.Caller.Call(ctx, "HMGET", there.Keys.Task(id), "data", "place")
		if err != nil && !rdb.IsTypeError(err) { // another program's key is none of ours
			return err
		}
		state, _ := reply.([]any)
		if len(state) == 2 && state[0] != nil && state[1] != nil {
			place := string(rdb.Bulk(state[1]))
			waiting[place] = append(waiting[place], append([]byte(id), rdb.Bulk(state[0])...))
		}
	}
	for place, members := range waiting {
		if there.Keys.IsPlace(place) {
			if err := there.RemoveWaiting(ctx, place, []byte(cancelled), members...); err != nil {
				return err
			}
		}
	}
	return nil
}

// forget removes what says that nodes have ended which run again: their states, and their dead letters.
func (c *Carrier) forget(ctx context.Context, flow string, p *plan) error {
	queues := map[string]*rdb.Store{}
	for _, number := range p.order {
		s := p.sets[number]
		keys, err := c.queueOf(ctx, flow, s.stored)
		if err != nil {
			return err
		}
		there := c.store.At(keys)
		queues[keys.Queue] = there
		for again := p.anew(number); len(again) > 0; {
			some := again[:min(page, len(again))]
			again = again[len(some):]
			command := []string{"UNLINK"}
			for _, index := range some {
				command = append(command, keys.Task(rdb.NodeID(flow, index)))
			}
			if _, err := there.Caller.Call(ctx, command...); err != nil {
				return err
			}
		}
	}
	for _, there := range queues {
		if err := forgetLetters(ctx, there, flow); err != nil {
			return err
		}
	}
	return nil
}

func forgetLetters(ctx context.Context, there *rdb.Store, flow string) error {
	for last := "+"; ; {
		reply, err := there.Caller.Call(ctx, "XREVRANGE", there.Keys.Dead, last, "-", "COUNT", rdb.Decimal(letterPage))
		entries, _ := reply.([]any)
		if err != nil || len(entries) == 0 {
			return err
		}
		command := []string{"XDEL", there.Keys.Dead}
		for _, entry := range entries {
			pair, _ := entry.([]any)
			if len(pair) != 2 {
				continue
			}
			last = "(" + string(rdb.Bulk(pair[0]))
			_, headers, _ := wire.Peek([]byte(rdb.Fields(pair[1])["task"]))
			if strings.HasPrefix(headers.TrackedID(), flow) {
				command = append(command, string(rdb.Bulk(pair[0])))
			}
		}
		if len(command) > 2 {
			if _, err := there.Caller.Call(ctx, command...); err != nil {
				return err
			}
		}
		if len(entries) < letterPage {
			return nil
		}
	}
}
