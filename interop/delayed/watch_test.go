package delayed

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/redis/go-redis/v9"
)

func TestWatchTellsWhatHappensAndWhoComes(t *testing.T) {
	queue := newQueue(t)
	fillHistory(t, queue)
	watching, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	var marked, failed, came, gaps atomic.Int64
	var err error
	done := background(func() {
		err = Watch(watching, []*Queue{queue}, func(w Watched) {
			switch {
			case w.Kind == "task" && w.Event.Outcome == "marked":
				marked.Add(1)
			case w.Kind == "task" && w.Event.Task == "m.Fail" && w.Event.Said == "errors.errorString: no" && w.Place == w.Event.By:
				failed.Add(1)
			case w.Kind == "came" && w.Place == "h:7" && w.Process == "worker":
				came.Add(1)
			case w.Kind == "gap":
				gaps.Add(1)
			}
		})
	})
	recorder := newRecorder(queue.store, "h:1")
	eventually(t, "it watches", func() bool {
		recorder.note(historyEvent{outcome: "marked"}, nil, time.Time{})
		recorder.write()
		return marked.Load() > 0
	})
	runHistory(t, queue)
	about, failure := wire.Encode(map[string]any{"kind": "worker", "place": "h:7"}, false)
	must(t, failure)
	_, _, _, failure = queue.store.Beat(ctx, "t", time.Minute, about)
	must(t, failure)
	eventually(t, "it tells of both", func() bool { return failed.Load() == 3 && came.Load() == 1 })
	stop()
	<-done
	if !errors.Is(err, context.Canceled) || gaps.Load() != 0 {
		t.Errorf("%d gaps, %v", gaps.Load(), err)
	}
}

func TestWhatIsRemovedUnreadIsAGap(t *testing.T) {
	entry := func(queue *Queue) {
		recorder := newRecorder(queue.store, "h:1")
		recorder.note(historyEvent{outcome: "marked"}, nil, time.Time{})
		recorder.write()
	}
	for name, before := range map[string]int{"none yet": 0, "emptied": 1, "some": 1} {
		queue := newQueue(t)
		key := queue.store.Keys.History
		for range before {
			entry(queue)
		}
		if name == "emptied" {
			must(t, queue.store.Client.XTrimMaxLen(ctx, key, 0).Err())
		}
		kinds := func(w *watch) string {
			var found []string
			w.tell = func(seen Watched) { found = append(found, seen.Kind) }
			must(t, w.read(ctx, []*Queue{queue}))
			return strings.Join(found, " ")
		}
		first, second := newWatch(nil), newWatch(nil)
		must(t, first.follow(ctx, queue))
		must(t, second.follow(ctx, queue))
		entry(queue)
		if found := kinds(first); found != "task" {
			t.Errorf("%s: %s", name, found)
		}
		must(t, queue.store.Client.XTrimMaxLen(ctx, key, 0).Err())
		entry(queue)
		if found := kinds(second); found != "gap task" {
			t.Errorf("%s: %s, once entries are removed", name, found)
		}
	}
}

func TestIDsOfEntriesHaveAnOrder(t *testing.T) {
	for _, pair := range [][2]string{{"9-1", "10-0"}, {"10-9", "10-10"}, {"10-1", "11-0"}} {
		if !earlier(pair[0], pair[1]) || earlier(pair[1], pair[0]) || earlier(pair[0], pair[0]) {
			t.Errorf("%q", pair)
		}
	}
}

func TestWatchTellsTotalsWhenTheyChange(t *testing.T) {
	queue, other := newQueue(t), newQueue(t)
	w := newWatch(nil)
	told := func() map[string]Sums {
		found := map[string]Sums{}
		w.tell = func(seen Watched) {
			if seen.Kind != "stats" {
				t.Error(seen)
			}
			found[seen.Queue] = seen.Stats
		}
		must(t, w.totals(ctx, []*Queue{queue, other}))
		return found
	}
	fillHistory(t, queue)
	if found := told(); len(found) != 2 || found[other.Name()] != (Sums{}) || found[queue.Name()] != (Sums{Enqueued: 103, Waiting: 103}) {
		t.Errorf("%+v", found)
	}
	if found := told(); len(found) != 0 {
		t.Errorf("nothing has changed: %+v", found)
	}
	runHistory(t, queue)
	must(t, queue.Enqueue(ctx, NewGoTask("m.Do").With(Group("g"))))
	digest := rdb.Digest("k")
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Waited, digest, "slots:"+digest+":1", "other", "another program's").Err())
	must(t, queue.store.Client.ZAdd(ctx, queue.store.Keys.Waits(digest), redis.Z{Member: "a"}, redis.Z{Member: "b"}).Err())
	want := Sums{Enqueued: 106, Started: 104, Retried: 1, Failed: 2, Completed: 101, Waiting: 3, Dead: 2}
	if found := told(); len(found) != 1 || found[queue.Name()] != want {
		t.Errorf("%+v", found)
	}
	must(t, queue.store.Client.Set(ctx, queue.store.Keys.Processing, "another program's", 0).Err())
	must(t, other.Enqueue(ctx, NewGoTask("m.Do")))
	if found := told(); len(found) != 1 || found[other.Name()].Waiting != 1 {
		t.Errorf("%+v", found)
	}
}

func TestWatchOnACluster(t *testing.T) {
	client := clusterOfOne(t)
	var queues []*Queue
	for _, name := range []string{"{a}", "{b}"} { // of two slots
		queue, err := NewQueue(name, client)
		must(t, err)
		queues = append(queues, queue)
	}
	watching, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	var tasks, stats [2]atomic.Int64
	var err error
	done := background(func() {
		err = Watch(watching, queues, func(w Watched) {
			i := int(w.Queue[1] - 'a')
			switch w.Kind {
			case "task":
				tasks[i].Add(1)
			case "stats":
				stats[i].Store(w.Stats.Enqueued)
			}
		})
	})
	for i, queue := range queues {
		must(t, queue.Enqueue(ctx, NewGoTask("m.Do")))
		recorder := newRecorder(queue.store, "h:1")
		eventually(t, "it tells of both queues", func() bool {
			recorder.note(historyEvent{outcome: "marked"}, nil, time.Time{})
			recorder.write()
			return tasks[i].Load() > 0 && stats[i].Load() == 1 || watching.Err() != nil
		})
	}
	stop()
	<-done
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
