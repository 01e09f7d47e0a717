package delayed

import (
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

func waitingOf(t *testing.T, queue *Queue, places ...Place) []Waiting {
	t.Helper()
	var found []Waiting
	for waits, err := range queue.Waiting(ctx, places...) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, waits)
	}
	return found
}

func enqueueWaiting(t *testing.T, queue *Queue, path string, options ...TaskOption) string {
	t.Helper()
	handle, err := queue.Submit(ctx, NewGoTask(path, 1).With(options...))
	if err != nil {
		t.Fatal(err)
	}
	return handle.ID
}

func TestWhatWaitsForAKeyIsListedAndCancelled(t *testing.T) {
	queue := newQueue(t)
	data, err := NewGoTask("main.Busy", 1).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	key := queue.store.Keys.WaitsForSlot("k")
	name := key[len(key)-40:]
	for _, command := range [][]string{
		{"ZADD", key, "1", "0123456789abcdef" + string(data)},
		{"HSET", queue.store.Keys.Waited, name, "slots:" + name + ":1"},
	} {
		if _, err := queue.store.Caller.Call(ctx, command...); err != nil {
			t.Fatal(err)
		}
	}
	found := waitingOf(t, queue)
	if len(found) != 1 || found[0].Task != "main.Busy" || found[0].Where != ForKey || !found[0].Due.IsZero() {
		t.Fatalf("%+v", found)
	}
	if cancelled, err := queue.CancelWaiting(ctx, found[0]); !cancelled || err != nil {
		t.Fatal(cancelled, err)
	}
	if left := waitingOf(t, queue); len(left) != 0 {
		t.Fatalf("%+v", left)
	}
}

func TestWhatWaitsIsListedCancelledAndMoved(t *testing.T) {
	queue := newQueue(t)
	for range rdb.WaitingPage + 5 {
		enqueueWaiting(t, queue, "main.Plain")
	}
	tracked := enqueueWaiting(t, queue, "main.Tracked", Track())
	for range 20 {
		enqueueWaiting(t, queue, "main.Grouped", Group("g"))
	}
	later := enqueueWaiting(t, queue, "main.Later", After(time.Hour), Track(), Group("g"))
	enqueueWaiting(t, queue, "main.Plain", After(2*time.Hour))
	if n := len(waitingOf(t, queue)); n != rdb.WaitingPage+5+1+20+2 {
		t.Fatalf("%d tasks wait", n)
	}
	scheduled := waitingOf(t, queue, Schedule)
	if len(scheduled) != 2 || scheduled[0].ID != later || scheduled[0].Task != "main.Later" || !scheduled[0].Tracked {
		t.Fatalf("%+v", scheduled)
	}
	if ahead := time.Until(scheduled[1].Due); scheduled[1].Tracked || ahead < time.Hour || ahead > 3*time.Hour {
		t.Fatalf("%+v", scheduled[1])
	}

	due := time.Now().Add(30 * time.Minute).Truncate(time.Second)
	for _, waits := range scheduled {
		if moved, err := queue.MoveWaiting(ctx, waits, due); !moved || err != nil {
			t.Fatal(moved, err)
		}
	}
	if status, err := queue.Handle(later).Status(ctx); err != nil || !status.Due.Equal(due) {
		t.Fatal(status, err)
	}
	for _, waits := range waitingOf(t, queue) {
		want := waits.Where == Schedule || waits.ID == tracked
		if cancelled, err := queue.CancelWaiting(ctx, waits); cancelled != want || err != nil {
			t.Fatalf("%+v: %v, %v", waits, cancelled, err)
		}
	}
	if left := waitingOf(t, queue, Schedule); len(left) != 0 {
		t.Fatalf("%+v", left)
	}
	if moved, err := queue.MoveWaiting(ctx, scheduled[1], due); moved || err != nil {
		t.Fatal(moved, err)
	}
	if status, err := queue.Handle(later).Status(ctx); err != nil || status.State != StateCancelled {
		t.Fatal(status, err)
	}
}
