package delayed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/redis/go-redis/v9"
)

// group puts tasks into the list of their group.
func group(t *testing.T, queue *Queue, name string, tasks ...*GoTask) {
	t.Helper()
	k, to := queue.store.Keys, queue.store.Keys.GroupTail(name)
	for _, task := range tasks {
		data, err := task.With(Group(name)).Serialize()
		must(t, err)
		id := rdb.Token()
		keys := []string{to.List, to.Announces, k.Scheduled, k.Wake, k.Task(id), k.Unique("")}
		_, err = queue.store.Run(ctx, "submit", keys, string(data), id, "0", "0", "0", "0", to.Word)
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
		if n := queue.store.Client.Exists(ctx, queue.store.Keys.Groups, queue.store.Keys.Group(rdb.Digest("a"))).Val(); n != 0 {
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
	if n := queue.store.Client.LLen(ctx, queue.store.Keys.Group(rdb.Digest("a"))).Val(); n != 5 || queue.store.Client.LLen(ctx, queue.store.Keys.Groups).Val() != 1 {
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
		{[]TaskOption{Retry(1), Group("a")}, queue.store.Keys.Group(rdb.Digest("a"))},
		{[]TaskOption{Retry(1)}, queue.Name()},
	} {
		data, err := NewGoTask("main.F").With(c.options...).Serialize()
		must(t, err)
		task, err := decode(data)
		must(t, err)
		w.endJob(&lease.Lease{Pool: w.pools[0], Name: "l", Data: data}, newJob(queue, task), errors.New("no"))
		posted := w.acks.Pipes[0].Posted
		if command := posted[len(posted)-1].Packed; !bytes.Contains(command, conn.AppendBulk(nil, c.in)) {
			t.Errorf("%q", command)
		}
	}
}

// A task that waits for a key or a slot keeps its group, too: by the schedule it comes back to it.
func TestATaskThatHasToWaitKeepsItsGroup(t *testing.T) {
	queue := newQueue(t)
	task := NewGoTask("main.F").With(Group("a"), ConcurrencyKey("k", 1), Unique("u", wire.WhileRunning, time.Hour))
	holds := []rdb.Holds{{Slots: "k", Limit: 1}, {ID: rdb.Token(), Unique: "u", Mode: wire.WhileRunning}}
	for i, key := range []string{queue.store.Keys.WaitsForSlot("k"), queue.store.Keys.WaitsForUnique(queue.store.Keys.Unique("u"))} {
		for lease, want := range []rdb.StartResult{rdb.StartBegins, rdb.StartFull - rdb.StartResult(i)} {
			data, err := task.Serialize()
			must(t, err)
			must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Processing, fmt.Sprint(lease), data).Err())
			group := "a"
			b := rdb.Beginning{Holds: holds[i], Bound: time.Minute, Group: &group}
			if b.Holds.ID != "" {
				b.Holds.ID = rdb.Token()
			}
			if began, err := queue.store.Start(ctx, fmt.Sprint(lease), b); began != want || err != nil {
				t.Fatal(began, err)
			}
		}
		if members := queue.store.Client.ZRange(ctx, key, 0, -1).Val(); len(members) != 1 || members[0][16:57] != ":"+rdb.Digest("a") {
			t.Errorf("%q", members)
		}
	}
}

// allDue makes everything due that is in the schedule.
func allDue(t *testing.T, queue *Queue) {
	t.Helper()
	members, err := queue.store.Client.ZRange(ctx, queue.store.Keys.Scheduled, 0, -1).Result()
	must(t, err)
	for i, member := range members {
		must(t, queue.store.Client.ZAdd(ctx, queue.store.Keys.Scheduled, redis.Z{Score: float64(i + 1), Member: member}).Err())
	}
}

func TestTasksOfGroupsComeBackToTheirGroups(t *testing.T) {
	for _, by := range []string{"worker", "sweeper"} {
		queue := newQueue(t)
		for i := range 20 {
			enqueue(t, queue, NewGoTask("main.F", fmt.Sprint("a", i)).With(Group("a"), After(time.Duration(i+1)*time.Hour)))
		}
		enqueue(t, queue, NewGoTask("main.F", "b0").With(Group("b"), After(time.Duration(21)*time.Hour)),
			NewGoTask("main.F", "plain").With(After(time.Duration(22)*time.Hour)))
		allDue(t, queue)
		if by == "sweeper" {
			found, err := queue.store.Due(ctx, []*rdb.Store{queue.store}, 100)
			must(t, err)
			if n := queue.store.Client.LLen(ctx, queue.store.Keys.Group(rdb.Digest("a"))).Val(); n != 6 || found.Moved != 22 || found.First != 0 || found.Pause != -1*time.Millisecond {
				t.Error(n, found)
			}
			continue
		}
		var ran notes
		must(t, newWorker(t, queue, map[string]any{"main.F": ran.add}, Burst()).Run(ctx))
		got := ran.all()
		if len(got) != 22 || slices.Index(got, "b0") > 3 || got[21] != "a19" {
			t.Errorf("%q", got)
		}
	}
}

func TestADueCallLeavesNothingBehindInAnotherQueue(t *testing.T) {
	first := newQueue(t)
	second, err := NewQueue("q"+rdb.Token(), first.store.Client)
	must(t, err)
	enqueue(t, second, NewGoTask("main.F").With(Group("a"), After(time.Hour)))
	allDue(t, second)
	found, err := first.store.Due(ctx, []*rdb.Store{first.store, second.store}, 100)
	if err != nil || found.First != 1 || found.Moved != 1 || lengths(t, second) != [2]int64{1, 1} {
		t.Error(found, err)
	}
}

// counted counts the scripts that are run.
type counted struct {
	rdb.Caller
	scripts int
}

func (c *counted) Call(ctx context.Context, args ...string) (any, error) {
	if args[0] == "EVALSHA" {
		c.scripts++
	}
	return c.Caller.Call(ctx, args...)
}

func TestManyTasksOfGroupsGoInTogether(t *testing.T) {
	queue := newQueue(t)
	must(t, queue.Enqueue(ctx, NewGoTask("main.F", "first").With(Group("a")))) // so that the scripts are known, and it was its turn
	tasks := func(i int) Task {
		task := NewGoTask("main.F", i)
		if i%3 == 2 {
			return task
		}
		return task.With(Group(string(rune('a' + i%3))))
	}
	counting := &counted{Caller: queue.store.Caller}
	count, err := queue.over(counting).EnqueueMany(ctx, many(1500, tasks))
	// Two chunks, and a turn for each of them in which a group had no tasks.
	if err != nil || count != 1500 || counting.scripts > 2+2 {
		t.Error(count, err, counting.scripts)
	}
	var sizes []int64
	for _, list := range []string{queue.Name(), queue.store.Keys.Group(rdb.Digest("a")), queue.store.Keys.Group(rdb.Digest("b")), queue.store.Keys.Groups} {
		sizes = append(sizes, queue.store.Client.LLen(ctx, list).Val())
	}
	if sizes[0]+sizes[1]+sizes[2] != 1501 || sizes[1] < 480 || sizes[2] < 480 || sizes[3] != 2 {
		t.Error(sizes)
	}
	data, err := tasks(1497).Serialize()
	must(t, err)
	if last := queue.store.Client.LRange(ctx, queue.store.Keys.Group(rdb.Digest("a")), -1, -1).Val(); last[0] != string(data) {
		t.Errorf("%q", last)
	}
}

func TestAnIDOfAnotherFormIsIgnored(t *testing.T) {
	queue := newQueue(t)
	for id, want := range map[string]string{"x": "", "0123456789abcdef": "0123456789abcdef", "0123456789abcde:": "", "": ""} {
		if job := newJob(queue, call{headers: headersOf(t, map[string]any{"id": id})}); job.ID != want {
			t.Errorf("%q", job.ID)
		}
	}
}
