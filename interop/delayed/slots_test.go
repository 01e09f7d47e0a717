package delayed

import (
	"errors"
	"sync/atomic"
	"testing"

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
