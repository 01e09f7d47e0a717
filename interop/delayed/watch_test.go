package delayed

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
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
