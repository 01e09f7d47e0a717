package delayed

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/clock"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

// later lets what is in the schedule be due.
func later(t *testing.T, queue *Queue) (count int) {
	t.Helper()
	for _, member := range queue.store.Client.ZRange(ctx, queue.store.Keys.Scheduled, 0, -1).Val() {
		must(t, queue.store.Client.ZAdd(ctx, queue.store.Keys.Scheduled, redis.Z{Score: 1, Member: member}).Err())
		count++
	}
	return count
}

func TestATaskThatCannotRunHereWaitsForOneThatCan(t *testing.T) {
	queue := newQueue(t)
	ran := make(chan string, 9)
	tracked := submit(t, queue, NewGoTask("m.New", "tracked").With(ResultTTL(time.Minute), Group("g")))
	enqueue(t, queue, NewGoTask("m.New", "plain"), NewGoTask("m.New", "retried").With(Retry(1)))
	task := packed(t, []any{[]any{"m.New", packed(t, []any{"header"}), map[string]any{"!new": map[string]any{}}}})
	must(t, queue.store.Client.RPush(ctx, queue.Name(), task).Err())
	before := queue.store.Client.LRange(ctx, queue.Name(), 0, -1).Val()
	stale := newWorker(t, queue, nil, Burst())
	for round := range 3 {
		must(t, stale.Run(ctx))
		n := queue.store.Client.ZCard(ctx, queue.store.Keys.Scheduled).Val()
		if n != 4 || len(deadLetters(t, queue)) != 0 || stale.setAside.Load() != 4 || stale.succeeded() != 0 {
			t.Fatal(n, deadLetters(t, queue), stale.setAside.Load())
		}
		for name, note := range queue.store.Client.HGetAll(ctx, queue.store.Keys.Deferred).Val() {
			var first, last, count int64
			if _, err := fmt.Sscanf(note, "%d:%d:%d", &first, &last, &count); err != nil || count != int64(round+1) {
				t.Error(note, err)
			}
			must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Deferred, name, fmt.Sprintf("%d:%d:%d", first, last-60_000, count)).Err()) // a minute passes
		}
		status, err := tracked.Status(ctx)
		if err != nil || status.State != StateScheduled || !strings.Contains(status.Waits, "nothing is registered") {
			t.Errorf("%+v %v", status, err)
		}
		for _, z := range queue.store.Client.ZRangeWithScores(ctx, queue.store.Keys.Scheduled, 0, -1).Val() {
			if pause := time.Until(time.UnixMilli(int64(z.Score))); pause > time.Second<<round || pause < time.Second<<round-20*time.Second {
				t.Error(round, pause)
			}
		}
		later(t, queue)
		stale = newWorker(t, queue, nil, Burst())
	}
	start(t, queue, map[string]any{"m.New": func(text string) string { ran <- text; return text }})
	must(t, tracked.Result(soon(t), nil))
	for range 3 {
		select {
		case text := <-ran:
			if text == "header" {
				t.Error("it has run")
			}
		case <-soon(t).Done():
			t.Fatal("not all have run")
		}
	}
	eventually(t, "only what nobody can read waits", func() bool {
		left := queue.store.Client.ZRange(ctx, queue.store.Keys.Scheduled, 0, -1).Val()
		return len(left) == 1 && left[0][16:] == before[len(before)-1]
	})
}

func TestATaskThatNobodyCanRunIsBuriedAfterAWhile(t *testing.T) {
	queue := newQueue(t)
	handle := submit(t, queue, NewGoTask("m.Gone").With(Track(), Unique("k", UntilDone, time.Hour)))
	enqueue(t, queue, NewGoTask("m.Gone"))
	run := func() { must(t, newWorker(t, queue, nil, Burst(), UnreadyFor(time.Minute)).Run(ctx)) }
	run()
	for name := range queue.store.Client.HGetAll(ctx, queue.store.Keys.Deferred).Val() { // a minute passes
		now := time.Now().UnixMilli()
		must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Deferred, name, fmt.Sprintf("%d:%d:7", now-61_000, now-1000)).Err())
	}
	later(t, queue)
	run()
	letters := deadLetters(t, queue)
	if len(letters) != 2 {
		t.Fatal(letters)
	}
	const want = `nothing is registered as "m.Gone" in this worker; it has waited for 1m1s for a worker that can run it`
	for _, letter := range letters {
		if letter.reason != string(UnknownFunction) || letter.detail != want {
			t.Errorf("%q", letter)
		}
	}
	if failed := failedAs(t, handle); failed.Kind != string(UnknownFunction) || failed.Message != want {
		t.Errorf("%+v", failed)
	}
	if n := queue.store.Client.Exists(ctx, queue.store.Keys.Processing, queue.store.Keys.Unique("k"), queue.store.Keys.Scheduled).Val(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	if ttl := queue.store.Client.TTL(ctx, queue.store.Keys.Deferred).Val(); ttl <= 0 { // others of the same bytes have waited for as long
		t.Errorf("what is noted lives for %s", ttl)
	}
	if _, err := NewWorker([]*Queue{queue}, UnreadyFor(-1)); err == nil {
		t.Error("it is below 0")
	}
}

// What has been cancelled, or is too late, does not wait for a worker that can run it.
func TestWhatNeedNotRunAnyMoreDoesNotWait(t *testing.T) {
	queue := newQueue(t)
	cancelled := submit(t, queue, NewGoTask("m.Gone").With(Track()))
	expired := submit(t, queue, NewGoTask("m.Gone").With(Track(), ExpiresAt(time.Now().Add(-time.Second))))
	if state, err := cancelled.Cancel(ctx); state != StateQueued || err != nil {
		t.Fatal(state, err)
	}
	must(t, newWorker(t, queue, nil, Burst()).Run(ctx))
	if n := queue.store.Client.Exists(ctx, queue.store.Keys.Processing, queue.store.Keys.Scheduled).Val(); n != 0 || stateOf(t, cancelled) != StateCancelled ||
		stateOf(t, expired) != StateExpired {
		t.Error(n, stateOf(t, cancelled), stateOf(t, expired))
	}
}

// A worker that lags behind the others leaves the queue to them, and says so once.
func TestAStaleWorkerSlowsDown(t *testing.T) {
	queue, log := newQueue(t), collected{make(chan string, 1000)}
	const many = 12
	for i := range many {
		enqueue(t, queue, NewGoTask(fmt.Sprint("m.Gone", i%2), i))
	}
	enqueue(t, queue, NewGoTask("m.Known"))
	known := make(chan struct{})
	worker := start(t, queue, map[string]any{"m.Known": func() { close(known) }}, Logger(slog.New(log)), Beat(time.Hour), TTL(3*time.Hour))
	<-known
	if worker.unready.slowdowns < 3 || worker.unready.inRow.Load() != 0 {
		t.Error(worker.unready.slowdowns, worker.unready.inRow.Load())
	}
	counted := map[string]int{}
	for len(log.lines) > 0 {
		words := strings.SplitN(<-log.lines, " function=", 2)
		counted[words[0]]++
	}
	if counted["cannot run a task (yet): it waits, and is tried again, by other workers too"] != 2 {
		t.Error(counted)
	}
	worker.Stop()
}

func TestAPathIsToldOfOnceAMinute(t *testing.T) {
	log := collected{make(chan string, 10)}
	worker := newWorker(t, newQueue(t), nil, Logger(slog.New(log)))
	for range 5 {
		worker.unready.note(worker, "m.F", unrunnable(UnknownFunction, "gone"))
	}
	for _, known := range worker.unready.paths {
		known.at = known.at.Add(-warnAgain)
	}
	worker.unready.note(worker, "m.F", unrunnable(UnknownFunction, "gone"))
	if first, second := <-log.lines, <-log.lines; !strings.Contains(first, " tasks=1 ") || !strings.Contains(second, " tasks=5 ") {
		t.Error(first, second)
	}
}

// What expires does so by the server's clock, of which the heartbeat asks.
func TestExpiresByTheServersClock(t *testing.T) {
	queue := newQueue(t)
	began := make(chan struct{}, 2)
	worker := start(t, queue, map[string]any{"m.F": func() { began <- struct{}{} }}, Beat(time.Hour), TTL(3*time.Hour))
	eventually(t, "it has asked", func() bool { return !worker.clock.Stale() })
	worker.clock.Learn(time.Now().Add(time.Hour), time.Now(), time.Now())
	late := submit(t, queue, NewGoTask("m.F").With(Track(), Expires(time.Minute)))
	if err := late.Result(soon(t), nil); err != ErrTaskExpired { //nolint:errorlint // it is itself
		t.Error(err)
	}
	worker.clock.Learn(time.Now().Add(-time.Hour), time.Now(), time.Now())
	must(t, submit(t, queue, NewGoTask("m.F").With(Track(), ExpiresAt(time.Now().Add(-time.Minute)))).Result(soon(t), nil))
	<-began
}

func TestTheServersClock(t *testing.T) {
	var clock clock.Server
	if off := time.Until(clock.Now()); off.Abs() > time.Minute {
		t.Error(off)
	}
	asked := time.Now()
	for _, reply := range []any{nil, []any{}, []any{"x", "1"}, []any{"1", "x"}, []any{int64(1), "1"}} {
		if said, err := rdb.TimeIn(reply); err == nil {
			t.Error(reply, said)
		}
	}
	said, err := rdb.TimeIn([]any{[]byte(fmt.Sprint(asked.Unix() + 100)), "500000"})
	must(t, err)
	ahead := clock.Learn(said, asked, asked.Add(2*time.Second))
	want := time.Unix(asked.Unix()+100, 500_000_000).Sub(asked.Add(time.Second))
	if ahead != want || time.Until(clock.Now()) < 90*time.Second {
		t.Error(ahead, want, clock.Now())
	}
}
