package delayed

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// group puts tasks into the list of their group.
func group(t *testing.T, queue *Queue, name string, tasks ...*GoTask) {
	t.Helper()
	k, to := queue.Keys, queue.Keys.within(name)
	for _, task := range tasks {
		data, err := task.With(Group(name)).Serialize()
		must(t, err)
		id := token()
		keys := []string{to.list, to.announces, k.Scheduled, k.Wake, k.Task(id), k.Unique("")}
		_, err = queue.run(ctx, "submit", keys, string(data), id, "0", "0", "0", "0", to.word)
		must(t, err)
	}
}

func TestAProducerPutsTasksIntoTheListOfTheirGroup(t *testing.T) {
	queue := newQueue(t)
	var want []string
	for i := range 40 {
		enqueue(t, queue, NewGoTask("main.F", fmt.Sprint("a", i)).With(Group("a")))
		want = append(want, fmt.Sprint("a", i))
	}
	handle := submit(t, queue, NewGoTask("main.F", "b0").With(Group("b"), Track()))
	later := submit(t, queue, NewGoTask("main.F", "b1").With(Group("b"), After(time.Hour), Track()))
	if n := lengths(t, queue); n != [2]int64{16, 16} || stateOf(t, handle) != StateQueued || stateOf(t, later) != StateScheduled {
		t.Fatal(n)
	}
	var ran notes
	start(t, queue, map[string]any{"main.F": ran.add})
	eventually(t, "all ran", func() bool { return len(ran.all()) == 41 })
	if got := ran.all(); !slices.Equal(got, slices.Insert(want, 17, "b0")) { // sixteen were ready, and then it is a's turn
		t.Errorf("%q", got)
	}
}

// notes is what ran, in order.
type notes struct {
	mu    sync.Mutex
	texts []string
}

func (n *notes) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.texts = append(n.texts, text)
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.texts)
}

func TestGroupsTakeTurns(t *testing.T) {
	for _, burst := range []bool{true, false} {
		queue := newQueue(t)
		for i := range 10 {
			group(t, queue, "a", NewGoTask("main.F", fmt.Sprint("a", i)))
		}
		group(t, queue, "b", NewGoTask("main.F", "b0"), NewGoTask("main.F", "b1"))
		group(t, queue, "c", NewGoTask("main.F", "c0"))
		var ran notes
		functions := map[string]any{"main.F": ran.add}
		if burst {
			must(t, newWorker(t, queue, functions, Burst()).Run(ctx))
		} else {
			start(t, queue, functions)
			eventually(t, "all ran", func() bool { return len(ran.all()) == 13 })
		}
		want := []string{"a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"}
		if got := ran.all(); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		if n := queue.client.Exists(ctx, queue.Keys.Groups, queue.Keys.Group(digest("a"))).Val(); n != 0 {
			t.Error("something is left of the groups")
		}
	}
}

// Groups fill the queue up to two batches, so that others wait for few of them.
func TestOnlySoManyTasksOfGroupsAreReady(t *testing.T) {
	queue := newQueue(t)
	for i := range 20 {
		group(t, queue, "a", NewGoTask("main.Hold", i))
	}
	begun, release := make(chan int, 20), make(chan struct{})
	worker := start(t, queue, map[string]any{"main.Hold": func(i int) { begun <- i; <-release }}, Concurrency(3), Beat(quick))
	for range 3 {
		<-begun
	}
	turned(t, queue, 1)
	if n := lengths(t, queue); n != [2]int64{3, 3} { // twice three, of which three run
		t.Error(n)
	}
	close(release)
	eventually(t, "all ran", func() bool { return worker.succeeded() == 20 })
}

// A worker that has heard of no groups hears of them by a beat.
func TestABeatSaysThatThereAreGroups(t *testing.T) {
	queue := newQueue(t)
	var ran notes
	start(t, queue, map[string]any{"main.F": ran.add}, Beat(quick))
	turned(t, queue, 1)
	group(t, queue, "a", NewGoTask("main.F", "a0"), NewGoTask("main.F", "a1"))
	eventually(t, "all ran", func() bool { return slices.Equal(ran.all(), []string{"a0", "a1"}) })
}

func TestASweeperLetsGroupsTakeTurns(t *testing.T) {
	queue := newQueue(t)
	for i := range 20 {
		group(t, queue, "a", NewGoTask("main.F", i))
	}
	group(t, queue, "b", NewGoTask("main.F", 0))
	sweeping(t, queue, SweepInterval(time.Hour))
	eventually(t, "sixteen are ready", func() bool { return lengths(t, queue) == [2]int64{16, 16} })
	if n := queue.client.LLen(ctx, queue.Keys.Group(digest("a"))).Val(); n != 5 || queue.client.LLen(ctx, queue.Keys.Groups).Val() != 1 {
		t.Error(n)
	}
}

func TestARetryWithoutPauseWaitsWithItsGroup(t *testing.T) {
	queue := newQueue(t)
	w := newWorker(t, queue, nil)
	for _, c := range []struct {
		options []TaskOption
		in      string
	}{
		{[]TaskOption{Retry(1), Group("a")}, queue.Keys.Group(digest("a"))},
		{[]TaskOption{Retry(1)}, queue.Name()},
	} {
		data, err := NewGoTask("main.F").With(c.options...).Serialize()
		must(t, err)
		task, err := decode(data)
		must(t, err)
		w.endJob(&lease{book: w.books[0], name: "l", data: data}, newJob(queue, task), errors.New("no"))
		posted := w.ends.lines[0].posted
		if command := posted[len(posted)-1].packed; !bytes.Contains(command, appendBulk(nil, c.in)) {
			t.Errorf("%q", command)
		}
	}
}

// keyed is a task with a concurrency key, as other producers make it.
func keyed(t *testing.T, queue *Queue, key string, limit int, task *GoTask) {
	t.Helper()
	data, err := task.Serialize()
	must(t, err)
	data, err = withHeaders(append(data, 0x80), header{"concurrency", []any{key, limit}})
	must(t, err)
	data[0]++ // an array of three
	_, err = queue.run(ctx, "enqueue", []string{queue.Name(), queue.Keys.Noti}, string(data))
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
		return queue.client.ZCard(ctx, queue.Keys.Scheduled).Val() == 3 && len(begun) == 3
	})
	release <- struct{}{}
	release <- struct{}{}
	eventually(t, "the slots of those that have ended are free", func() bool {
		return !slices.Contains(queue.client.Keys(ctx, queue.Name()+"*").Val(), queue.Keys.Slots("user-7"))
	})
	close(release)
	eventually(t, "all ran", func() bool { return workers[0].succeeded()+workers[1].succeeded() == 6 })
	if n := queue.client.Exists(ctx, queue.Keys.Slots("user-7"), queue.Keys.Slots("user-8"), queue.Keys.Scheduled).Val(); n != 0 || len(begun) != 6 {
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
	if worker.aside.Load() != 0 || worker.succeeded() != 20 || worker.failed.Load() != 20 || most.Load() != 1 {
		t.Error(worker.aside.Load(), worker.succeeded(), worker.failed.Load(), most.Load())
	}
	if n := queue.client.Exists(ctx, queue.Keys.Slots("k")).Val(); n != 0 {
		t.Error("a slot is left")
	}
}

func TestASlotIsAskedForAgainWhenRedisHasRefused(t *testing.T) {
	queue := newQueue(t)
	keyed(t, queue, "k", 1, NewGoTask("main.F"))
	log := &process{}
	must(t, queue.client.Set(ctx, queue.Keys.Slots("k"), "foreign", 0).Err())
	worker := start(t, queue, map[string]any{"main.F": func() {}}, Logger(slog.New(slog.NewTextHandler(log, nil))))
	eventually(t, "it is refused", func() bool { return log.logged("trying again") })
	must(t, queue.client.Del(ctx, queue.Keys.Slots("k")).Err())
	eventually(t, "it ran", func() bool { return worker.succeeded() == 1 })
}

func TestAnIDOfAnotherFormIsIgnored(t *testing.T) {
	queue := newQueue(t)
	for id, want := range map[string]string{"x": "", "0123456789abcdef": "0123456789abcdef", "0123456789abcde:": "", "": ""} {
		if job := newJob(queue, call{headers: map[string]any{"id": id}}); job.ID != want {
			t.Errorf("%q", job.ID)
		}
	}
}
