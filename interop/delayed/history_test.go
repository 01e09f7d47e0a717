package delayed

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/delayedq/delayed/interop/internal/wire"
)

// told is how often each outcome stands in the history of a queue.
func told(t *testing.T, queue *Queue) map[string]int {
	t.Helper()
	entries, err := queue.store.Client.XRange(ctx, queue.store.Keys.History, "-", "+").Result()
	must(t, err)
	found := map[string]int{}
	for _, entry := range entries {
		value, err := wire.NewDecoder([]byte(entry.Values["batch"].(string))).Anything()
		must(t, err)
		batch := value.([]any)
		for _, times := range batch[1].(map[string]any) {
			found["succeeded"] += len(times.([]any))
		}
		for _, event := range batch[2].([]any) {
			found[event.([]any)[1].(string)]++
		}
	}
	return found
}

func fillHistory(t *testing.T, queue *Queue) {
	t.Helper()
	for range 100 {
		must(t, queue.Enqueue(ctx, NewGoTask("m.Do")))
	}
	must(t, queue.Enqueue(ctx, NewGoTask("m.Fail")))
	submit(t, queue, NewGoTask("m.Fail").With(Track(), Retry(1)))
	submit(t, queue, NewGoTask("m.Do").With(Track()))
}

func runHistory(t *testing.T, queue *Queue) {
	t.Helper()
	worker, err := NewWorker([]*Queue{queue}, NoSignals(), Burst(), Concurrency(4))
	must(t, err)
	must(t, worker.RegisterAs("m.Do", func() {}))
	must(t, worker.RegisterAs("m.Fail", func(context.Context) error { return errors.New("no") }))
	must(t, worker.Run(soon(t)))
}

func TestAHistoryTellsWhatDoesNotSucceed(t *testing.T) {
	queue := newQueue(t)
	fillHistory(t, queue)
	runHistory(t, queue)
	if found := told(t, queue); !reflect.DeepEqual(found, map[string]int{"failed": 2, "retried": 1}) {
		t.Errorf("%v", found)
	}
}

func TestAHistoryTellsAllOnce(t *testing.T) {
	queue := newQueue(t)
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Control, "history", "all").Err())
	fillHistory(t, queue)
	runHistory(t, queue)
	if found := told(t, queue); !reflect.DeepEqual(found, map[string]int{"succeeded": 101, "failed": 2, "retried": 1}) {
		t.Errorf("%v", found)
	}
	if n, err := queue.store.Client.XLen(ctx, queue.store.Keys.History).Result(); err != nil || n > 20 {
		t.Errorf("%d entries, %v", n, err)
	}
}

func TestAHistoryThatIsOffCostsNothing(t *testing.T) {
	queue := newQueue(t)
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Control, "history", "off").Err())
	fillHistory(t, queue)
	runHistory(t, queue)
	if n, err := queue.store.Client.Exists(ctx, queue.store.Keys.History).Result(); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestWhatAHistoryKeeps(t *testing.T) {
	for record, want := range map[string]historyKept{
		"": {days: 30}, "failures": {days: 30}, "all": {share: 1, days: 30}, "off": {off: true, days: 30}, "0.1": {share: 0.1, days: 30},
		"7": {days: 30}, "x": {days: 30},
	} {
		if kept := keptOf(map[string]string{"history": record}); kept != want {
			t.Errorf("%q: %+v", record, kept)
		}
	}
	if kept := keptOf(map[string]string{"history_days": "0.5"}); kept.days != 0.5 {
		t.Errorf("%+v", kept)
	}
}
