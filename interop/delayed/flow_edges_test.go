package delayed

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestAWorkflowWhoseKeyIsFreeAgainRuns(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	seen := map[string]bool{}
	for range 2 {
		first := task("f.Number", 1).With(Unique("u", UntilDone, time.Hour))
		run, err := queue.SubmitFlow(ctx, ChainOf(first, task("f.Add", 10)), FlowUnique("daily"))
		must(t, err)
		seen[run.ID] = true
		runAll(t, queue)
		sum := 0
		if state := ended(t, run, &sum); state != StateSucceeded || sum != 11 {
			t.Error(state, sum)
		}
		must(t, queue.store.Client.ZAdd(ctx, queue.store.Keys.FlowIDs, redis.Z{Score: 1, Member: run.flow}).Err())
		must(t, tend(ctx, queue))
		if _, err := run.Status(ctx); err == nil {
			t.Error("it has not been forgotten")
		}
	}
	if len(seen) != 2 {
		t.Error("what is known of the nodes of the first one is that of those of the second one", seen)
	}
}

func TestAKeyIsThatOfOneWorkflowInEachHome(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	other := beside(t, queue)
	for _, home := range []*Queue{queue, other} {
		_, err := home.SubmitFlow(ctx, task("f.Number", 1), FlowUnique("same"))
		must(t, err)
	}
	runAll(t, queue, other)
}

func TestWhatFollowsAGroupWithoutMembers(t *testing.T) {
	ctx := context.Background()
	for n, want := range map[int][]State{1: {StateSucceeded, StateSucceeded}, 2: {StateFailed, StateSkipped}} {
		queue := newQueue(t)
		run, err := queue.SubmitFlow(ctx, ChainOf(task("f.Fail", n), GroupOf(), GroupOf(), task("f.Seen")))
		must(t, err)
		if waiting, _ := queue.Len(ctx); waiting != 1 {
			t.Error("it does not wait for what is before the group")
		}
		runAll(t, queue)
		ended(t, run, nil)
		if found := states(t, run); !slices.Equal(found, want) {
			t.Error(n, found)
		}
	}
}

func TestAHandlerIsNoEnd(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	run, err := queue.SubmitFlow(ctx, ChainOf(task("f.Number", 1), Linked(task("f.Number", 5), nil, []Part{task("f.Seen")})))
	must(t, err)
	runAll(t, queue)
	value := 0
	if state := ended(t, run, &value); state != StateSucceeded || value != 5 {
		t.Error(state, value)
	}
}

func TestAHandlerDoesNotRunForWhatWasSkipped(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	run, err := queue.SubmitFlow(ctx, ChainOf(task("f.Fail", 2), Linked(task("f.Number", 5), nil, []Part{task("f.Seen")})))
	must(t, err)
	runAll(t, queue)
	ended(t, run, nil)
	if found := states(t, run); !slices.Equal(found, []State{StateFailed, StateSkipped, StateSkipped}) {
		t.Error(found)
	}
}

func TestAnEdgeMayStopAll(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "")
	f.Add(task("f.Number", 1), AfterNodes(f.Wait("never", 0)))
	f.Add(task("f.Number", 2), AfterNodes(f.Add(task("f.Fail", 2))), When(PolicyStopNow))
	run, err := f.Submit(ctx)
	must(t, err)
	runAll(t, queue)
	ended(t, run, nil)
	if found := states(t, run); !slices.Equal(found, []State{StateCancelled, StateCancelled, StateFailed, StateSkipped}) {
		t.Error(found)
	}
}

func TestWhatWaitsAnewAfterACancelRuns(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	other := beside(t, queue)
	run, err := queue.SubmitFlow(ctx, ChainOf(task("f.Number", 1), On(other.Name(), task("f.Number", 2)), task("f.Number", 3)))
	must(t, err)
	runAll(t, queue) // the second one's queue has no worker
	must(t, run.Cancel(ctx))
	must(t, tend(ctx, queue))
	_, err = run.Retry(ctx, RetryAll)
	must(t, err)
	runAll(t, queue, other)
	value := 0
	if state := ended(t, run, &value); state != StateSucceeded || value != 3 {
		t.Error(state, value)
	}
}
