package delayed

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// storedFlow puts a workflow into Redis as producers do: nodes 0 and 1 beside each other, a map over their results, and a last node.
func storedFlow(t *testing.T, queue *Queue, id string) {
	t.Helper()
	k := queue.store.Keys
	task := func(path string, set, index int64, args ...any) string {
		data, err := NewGoTask(path, args...).With(Track()).serialize(birth{id: rdb.NodeID(id, index), at: time.Now()})
		must(t, err)
		data, err = wire.WithHeaders(data, wire.Header{Name: "flow", Value: []any{queue.Name(), set}})
		must(t, err)
		return string(data)
	}
	fields := []string{
		"name", "test", "policy", "stop", "keep", "60000", "total", "4", "left", "4", "next", "4", "sets", "3", "gates", "2", "out", "3",
		"queues", string(wire.AppendString(wire.AppendArray(nil, 1), queue.Name())),
		"s0", "0 2 1 t - 0", "s1", "2 1 1 m - 1", "w1", "1", "p1", "l0", "s2", "3 1 1 t - -", "w2", "1", "p2", "l1",
		"g0", "a 0 1", "n0", "2", "g1", "a 0 2", "n1", "1",
		"t0", task("node.Number", 0, 0, 20), "t1", task("node.Number", 0, 1, 1), "t2", task("node.Double", 1, 2), "t3", task("node.Last", 2, 3),
	}
	keys := []string{k.Flow(id), k.Marks(id), k.Joins(id), k.FlowOutbox, k.FlowIDs, k.FlowDue, k.Task(rdb.NodeID(id, -1)), k.Flow(id)}
	args := append([]string{id, "builder", "whole", "60000", "4", strconv.Itoa(len(fields)), "0"}, fields...)
	reply, err := queue.store.Run(context.Background(), "flow_build", keys, append(args, "i0")...)
	must(t, err)
	if reply != int64(1) {
		t.Fatal("the workflow was not stored")
	}
}

func nodeWorker(t *testing.T, queue *Queue, options ...WorkerOption) *Worker {
	t.Helper()
	w, err := NewWorker([]*Queue{queue}, append([]WorkerOption{NoSignals(), Concurrency(8), Burst()}, options...)...)
	must(t, err)
	w.carriers.slice = time.Minute // no sweeper is there for what is left
	must(t, w.RegisterAs("node.Number", func(n int) int { return n }))
	must(t, w.RegisterAs("node.Double", func(n int) int { return 2 * n }))
	must(t, w.RegisterAs("node.Last", func() string { return "done" }))
	return w
}

func TestAWorkerCarriesOnTheWorkflowsOfItsNodes(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	for i := range 20 {
		id := fmt.Sprintf("flowAAAA%02d", i)
		storedFlow(t, queue, id)
		_, err := queue.carrier().Carry(ctx, id, time.Now().Add(time.Minute))
		must(t, err)
	}
	must(t, nodeWorker(t, queue).Run(ctx))
	for i := range 20 {
		id := fmt.Sprintf("flowAAAA%02d", i)
		var said string
		must(t, queue.Handle(rdb.NodeID(id, -1)).Result(ctx, &said))
		found, err := queue.store.Client.HMGet(ctx, queue.store.Keys.Flow(id), "state", "total", "left", "r4", "r5").Result()
		must(t, err)
		if said != "done" || fmt.Sprint(found[:3]) != "[succeeded 5 0]" || !strings.HasSuffix(found[3].(string), "\x28") || !strings.HasSuffix(found[4].(string), "\x02") {
			t.Errorf("%q %q", said, found)
		}
	}
}

func TestASweeperCarriesOnWhatNobodyHas(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	storedFlow(t, queue, "flowBBBBBB")
	for range 3 { // the worker's own carrying is not asked for anything: it is another's that has ended its nodes
		_, err := flow.Tend(ctx, queue.store, nil)
		must(t, err)
		must(t, nodeWorker(t, queue).Run(ctx))
	}
	status, err := queue.Handle(rdb.NodeID("flowBBBBBB", -1)).Status(ctx)
	must(t, err)
	if status.State != StateSucceeded {
		t.Error(status)
	}
	if left, err := queue.store.Client.LLen(ctx, queue.store.Keys.FlowOutbox).Result(); err != nil || left != 0 {
		t.Error(left, err)
	}
}
