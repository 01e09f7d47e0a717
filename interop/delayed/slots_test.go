package delayed

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// keyed is a task with a concurrency key, as other producers make it.
func keyed(t *testing.T, queue *Queue, key string, limit int, task *GoTask) {
	t.Helper()
	data, err := task.Serialize()
	must(t, err)
	data, err = wire.WithHeaders(append(data, 0x80), wire.Header{Name: "concurrency", Value: []any{key, limit}})
	must(t, err)
	data[0]++ // an array of three
	_, err = queue.store.Run(ctx, "enqueue", []string{queue.Name(), queue.store.Keys.Noti}, string(data))
	must(t, err)
}

func TestTasksWithOneKeyBesideEachOtherAreFew(t *testing.T) {
	queue := newQueue(t)
	begun, release := make(chan int, 20), make(chan struct{})
	functions := map[string]any{
		"main.Hold": func(i int) { begun <- i; <-release },
		"main.F":    func(i int) { begun <- i },
	}
	for i := range 5 {
		keyed(t, queue, "user-7", 2, NewGoTask("main.Hold", i))
	}
	keyed(t, queue, "user-8", 2, NewGoTask("main.F", 100))
	workers := []*Worker{start(t, queue, functions, Concurrency(3)), start(t, queue, functions, Concurrency(3))}
	eventually(t, "the others have been refused a slot, and wait", func() bool {
		return queue.store.Client.ZCard(ctx, queue.store.Keys.WaitsForSlot("user-7")).Val() == 3 && len(begun) == 3
	})
	release <- struct{}{}
	release <- struct{}{}
	eventually(t, "others begin instead of those that have ended", func() bool {
		return queue.store.Client.ZCard(ctx, queue.store.Keys.WaitsForSlot("user-7")).Val() == 1 && len(begun) == 5
	})
	close(release)
	eventually(t, "all ran", func() bool { return workers[0].succeeded()+workers[1].succeeded() == 6 })
	if n := queue.store.Client.Exists(ctx, queue.store.Keys.Slots("user-7"), queue.store.Keys.Slots("user-8"), queue.store.Keys.Waited).Val(); n != 0 || len(begun) != 6 {
		t.Error(n, len(begun))
	}
}

// Those that a worker has in hand are asked about in one question, and no more begin than may.
func TestTasksWithOneKeyBeginTogether(t *testing.T) {
	queue := newQueue(t)
	leases, tasks := []string{"first", "second", "third", "fourth"}, []rdb.Start(nil)
	for i, name := range leases {
		keyed(t, queue, []string{"user-7", "user-8"}[i/3], 2, NewGoTask("main.F", i))
		tasks = append(tasks, rdb.Start{Lease: name, Attempt: 1})
	}
	taken, err := queue.store.Take(ctx, leases, rdb.TakeOptions{Holder: "w", TTL: time.Minute, Waiting: true})
	must(t, err)
	for i, data := range taken.Tasks {
		tasks[i].Holds = rdb.HoldsIn(data)
	}
	answers, err := queue.store.StartMany(ctx, tasks, "w")
	if want := []rdb.StartResult{1, 1, rdb.StartAlone, 1}; err != nil || !slices.Equal(answers, want) {
		t.Error(answers, err)
	}
	client, keys := queue.store.Client, queue.store.Keys
	if slots := [2]int64{client.HLen(ctx, keys.Slots("user-7")).Val(), client.HLen(ctx, keys.Slots("user-8")).Val()}; slots != [2]int64{2, 1} {
		t.Error(slots)
	}
}

// The slot of a task that has ended is free when the next one begins, whichever way it ended.
func TestASlotIsFreeAtOnce(t *testing.T) {
	queue := newQueue(t)
	for i := range 40 {
		keyed(t, queue, "k", 1, NewGoTask([]string{"main.F", "main.Fail"}[i%2]))
	}
	var running, most atomic.Int32
	function := func() {
		most.Store(max(most.Load(), running.Add(1)))
		running.Add(-1)
	}
	worker := newWorker(t, queue, map[string]any{"main.F": function, "main.Fail": func() error { function(); return errors.New("no") }}, Burst())
	must(t, worker.Run(ctx))
	if worker.setAside.Load() != 0 || worker.succeeded() != 20 || worker.failed.Load() != 20 || most.Load() != 1 {
		t.Error(worker.setAside.Load(), worker.succeeded(), worker.failed.Load(), most.Load())
	}
	if n := queue.store.Client.Exists(ctx, queue.store.Keys.Slots("k")).Val(); n != 0 {
		t.Error("a slot is left")
	}
}
