package delayed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// whileWaiting is what Result says of a node, where something happens while somebody waits for it.
func whileWaiting(t *testing.T, queue *Queue, run *Run, index int64, act func()) (value any, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id := rdb.NodeID(run.flow, index)
	done := make(chan error, 1)
	go func() { done <- queue.Handle(id).Result(ctx, &value) }()
	eventually(t, "somebody waits", func() bool {
		waiters.Lock()
		defer waiters.Unlock()
		w := waiters.running[waiterKey{client: queue.store.Client}]
		if w == nil {
			return false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.waiting[queue.store.Keys.Task(id)]) > 0
	})
	act()
	return value, <-done
}

func TestANodeThatHasNotBegunIsWaitedFor(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "")
	first := f.Add(task("f.Number", 1))
	second := f.Add(task("f.Number", 2), AfterNodes(first))
	f.Add(On(queue.Name()+"2", task("f.Number", 3)), AfterNodes(second))
	f.Add(task("f.Number", 4), AfterNodes(f.Wait("go", 0)))
	run, err := f.Submit(ctx)
	must(t, err)
	over, end := context.WithCancel(ctx)
	end()
	for index := range int64(4) {
		if err := queue.Handle(rdb.NodeID(run.flow, index)).Result(over, nil); !errors.Is(err, ErrNotDone) {
			t.Error(index, err)
		}
	}
	other := beside(t, queue)
	if value, err := whileWaiting(t, queue, run, 1, func() { runAll(t, queue) }); err != nil || fmt.Sprint(value) != "2" {
		t.Error(value, err)
	}
	if value, err := whileWaiting(t, queue, run, 2, func() { runAll(t, other) }); err != nil || fmt.Sprint(value) != "3" {
		t.Error(value, err)
	}
	signal := func() { _, err := run.Signal(ctx, "go", "on"); must(t, err) }
	if value, err := whileWaiting(t, queue, run, 3, signal); err != nil || value != "on" {
		t.Error(value, err)
	}
	var value int
	must(t, queue.Handle(rdb.NodeID(run.flow, 0)).Result(over, &value)) // it has ended
	if value != 1 {
		t.Error(value)
	}
}

func TestWhoWaitsForANodeThatNeverRunsHearsOfIt(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	run, err := queue.SubmitFlow(ctx, ChainOf(task("f.Fail", 2), task("f.Number", 1)))
	must(t, err)
	if _, err := whileWaiting(t, queue, run, 1, func() { runAll(t, queue) }); !errors.Is(err, ErrTaskCancelled) {
		t.Error(err)
	}
	if err := queue.Handle(rdb.NodeID(run.flow, 1)).Result(ctx, nil); !errors.Is(err, ErrTaskCancelled) {
		t.Error(err)
	}
	if err := queue.Handle(rdb.NodeID(run.flow, 7)).Result(ctx, nil); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
	run, err = queue.SubmitFlow(ctx, ChainOf(task("f.Number", 2), task("f.Number", 1)))
	must(t, err)
	if _, err := whileWaiting(t, queue, run, 1, func() { must(t, run.Cancel(ctx)) }); !errors.Is(err, ErrTaskCancelled) {
		t.Error(err)
	}
}

func TestTheNodeThatStandsForThoseOfAMapIsNoneOnceTheseAreThere(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "")
	f.Map(task("f.Double"), f.Add(task("f.List", 2)))
	run, err := f.Submit(ctx)
	must(t, err)
	if _, err := whileWaiting(t, queue, run, 1, func() { runAll(t, queue) }); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
	var value int
	must(t, queue.Handle(rdb.NodeID(run.flow, 2)).Result(ctx, &value))
	if value != 2 {
		t.Error(value)
	}
}

func TestWhatNodesHaveAddedIsFoundByWhatComesAfter(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	for _, listed := range []bool{false, true} {
		var previous any
		var all []int
		w := flowWorker(t, queue)
		must(t, w.RegisterAs("f.Grow", func(ctx context.Context, n int) (int, error) {
			more := GroupOf(task("f.Number", 10*n+1), ChainOf(task("f.Number", 5), task("f.Number", 10*n+2)))
			_, err := AddToFlow(ctx, more, "")
			return n, err
		}))
		must(t, w.RegisterAs("f.Look", func(ctx context.Context) error {
			for each, err := range Results[int](ctx) {
				if err != nil {
					return err
				}
				all = append(all, each)
			}
			return Previous(ctx, &previous)
		}))
		var before Part = task("f.Grow", 1)
		want, wanted := []int{1, 11, 12}, "1"
		if listed {
			before, want, wanted = GroupOf(before, task("f.Number", 2)), []int{1, 2, 11, 12}, "[1 2 11 12]"
		}
		run, err := queue.SubmitFlow(ctx, ChainOf(before, task("f.Look")))
		must(t, err)
		must(t, w.Run(ctx))
		if state := ended(t, run, nil); state != StateSucceeded || !slices.Equal(all, want) || fmt.Sprint(previous) != wanted {
			t.Error(state, all, previous)
		}
	}
}
