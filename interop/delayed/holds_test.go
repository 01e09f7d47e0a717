package delayed

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

// begins takes the task that comes next under a lease, and lets it begin.
func begins(t *testing.T, queue *Queue, lease string, want rdb.StartResult) rdb.Holds {
	t.Helper()
	taken, err := queue.store.Take(ctx, []string{lease}, rdb.TakeOptions{TTL: time.Minute, Waiting: true})
	if err != nil || len(taken.Tasks) != 1 {
		t.Fatal(taken, err)
	}
	h := rdb.HoldsIn(taken.Tasks[0])
	if began, err := queue.store.Start(ctx, lease, rdb.Beginning{Holds: h, Bound: time.Minute}); began != want || err != nil {
		t.Fatal(began, err)
	}
	return h
}

func TestASweeperWakesThoseWhoseKeyIsFree(t *testing.T) {
	queue := newQueue(t)
	unique := Unique("u", WhileRunning, time.Hour)
	submit(t, queue, NewGoTask("main.F").With(unique))
	waits := submit(t, queue, NewGoTask("main.F").With(unique, ResultTTL(time.Minute)))
	slot := submit(t, queue, NewGoTask("main.F").With(ConcurrencyKey("s", 1)))
	kept := submit(t, queue, NewGoTask("main.F").With(ConcurrencyKey("s", 1), ResultTTL(time.Minute)))
	begins(t, queue, "a", rdb.StartBegins)
	begins(t, queue, "b", rdb.StartBusy)
	begins(t, queue, "c", rdb.StartBegins)
	begins(t, queue, "d", rdb.StartFull)
	if slot.ID != "" {
		t.Error("it is tracked")
	}
	must(t, queue.store.Client.Del(ctx, queue.store.Keys.Unique("u")).Err())           // it ran out
	must(t, queue.store.Client.HDel(ctx, queue.store.Keys.Processing, "a", "c").Err()) // something else has swept these
	must(t, newSweeper(t, queue).Sweep(ctx))
	worker := newWorker(t, queue, map[string]any{"main.F": func() {}}, Burst())
	must(t, worker.Run(ctx))
	must(t, errors.Join(resultOf(t, waits), resultOf(t, kept)))
	if n := queue.store.Client.Exists(ctx, queue.store.Keys.Waited).Val(); n != 0 || worker.succeeded() != 2 {
		t.Error(n, worker.succeeded())
	}
}

func resultOf(t *testing.T, handle *Handle) error {
	t.Helper()
	return handle.Result(soon(t), nil)
}

func TestOneThatWaitsForAKeyIsCancelledAtOnce(t *testing.T) {
	queue := newQueue(t)
	for i, option := range []TaskOption{Unique("u", WhileRunning, time.Hour), ConcurrencyKey("s", 1)} {
		submit(t, queue, NewGoTask("main.F").With(option))
		handle := submit(t, queue, NewGoTask("main.F").With(option, Track()))
		begins(t, queue, "a"+rdb.Decimal(int64(i)), rdb.StartBegins)
		begins(t, queue, "b"+rdb.Decimal(int64(i)), rdb.StartBusy+rdb.StartResult(i))
		if state, err := handle.Cancel(ctx); state != StateQueued || err != nil {
			t.Error(state, err)
		}
		if err := resultOf(t, handle); !errors.Is(err, ErrTaskCancelled) {
			t.Error(err)
		}
		if n := queue.store.Client.Exists(ctx, queue.store.Keys.Waited).Val(); n != 0 {
			t.Error("it still waits")
		}
	}
}

func TestATaskThatIsGivenBackWaits(t *testing.T) {
	queue := newQueue(t)
	handle := submit(t, queue, NewGoTask("main.F").With(Track(), ConcurrencyKey("s", 1)))
	begun := make(chan struct{})
	worker := newWorker(t, queue, map[string]any{
		"main.F": func(ctx context.Context) { close(begun); <-ctx.Done() },
	}, Grace(time.Millisecond), NoSignals())
	done := background(func() {
		if err := worker.Run(ctx); !errors.Is(err, ErrForced) {
			t.Error(err)
		}
	})
	<-begun
	worker.Stop()
	<-done
	if state := stateOf(t, handle); state != StateQueued {
		t.Error(state)
	}
	if n := queue.store.Client.Exists(ctx, queue.store.Keys.Slots("s")).Val(); n != 0 {
		t.Error("its slot is left")
	}
}

func TestProgressMakesNoKey(t *testing.T) {
	queue := newQueue(t)
	id := rdb.Token()
	must(t, newJob(queue, call{headers: headersOf(t, map[string]any{"id": id})}).Progress(ctx, 1, 2, "still here"))
	if n := queue.store.Client.Exists(ctx, queue.store.Keys.Task(id)).Val(); n != 0 {
		t.Error("there is a key without a TTL")
	}
}

func TestWhoWaitsLooksAtTheState(t *testing.T) {
	for state, want := range map[State]error{
		StateCancelled: ErrTaskCancelled, StateExpired: ErrTaskExpired, StateFailed: ErrTaskFailed, StateSucceeded: ErrNoResult,
	} {
		queue := newQueue(t)
		handle := submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute)))
		must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Task(handle.ID), "state", string(state), "error", "X: no").Err())
		if err := resultOf(t, handle); !errors.Is(err, want) {
			t.Error(state, err)
		}
	}
}

// putOff ends a lease whose task cannot run here.
func putOff(queue *Queue, lease string, h rdb.Holds, limit time.Duration) (said rdb.DeferResult, pause time.Duration, err error) {
	reply, err := queue.store.Send(ctx, queue.store.Deferring(lease, h, queue.store.Keys.Tail(), limit, "why"))
	said, pause, _ = rdb.DeferredOf(reply)
	return said, pause, err
}

func TestWhatCannotRunYetWaits(t *testing.T) {
	queue := newQueue(t)
	handle := submit(t, queue, NewGoTask("main.F").With(Track()))
	var pauses []time.Duration
	for _, lease := range []string{"a", "b"} {
		taken, err := queue.store.Take(ctx, []string{lease}, rdb.TakeOptions{TTL: time.Minute, Waiting: true})
		must(t, err)
		h := rdb.HoldsIn(taken.Tasks[0])
		if said, _, err := putOff(queue, lease, h, 0); said != rdb.DeferOver || err != nil {
			t.Fatal(said, err)
		}
		said, pause, err := putOff(queue, lease, h, time.Hour)
		if said != rdb.DeferDone || err != nil {
			t.Fatal(said, err)
		}
		pauses = append(pauses, pause)
		status, err := handle.Status(ctx)
		if err != nil || status.State != StateScheduled || status.Waits != "why" {
			t.Errorf("%+v %v", status, err)
		}
		for digest := range queue.store.Client.HGetAll(ctx, queue.store.Keys.Deferred).Val() { // as if that had been in 1970
			must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Deferred, digest, "1:1:5").Err())
		}
		for _, member := range queue.store.Client.ZRange(ctx, queue.store.Keys.Scheduled, 0, -1).Val() {
			must(t, queue.store.Client.ZAdd(ctx, queue.store.Keys.Scheduled, redis.Z{Score: 1, Member: member}).Err())
		}
		_, err = queue.store.Due(ctx, []*rdb.Store{queue.store}, 10)
		must(t, err)
	}
	if said, _, err := putOff(queue, "a", rdb.Holds{}, time.Hour); said != rdb.DeferSuperseded || err != nil {
		t.Error(said, err)
	}
	if !slices.Equal(pauses, []time.Duration{time.Second, time.Second}) { // after so long it is the first time again
		t.Error(pauses)
	}
}

// counting adds up what is read of a hash.
type counting struct {
	rdb.Caller
	read *int
}

func (c counting) Call(ctx context.Context, args ...string) (any, error) {
	reply, err := c.Caller.Call(ctx, args...)
	if args[0] == "HMGET" {
		for _, value := range reply.([]any) {
			*c.read += len(rdb.Bulk(value))
		}
	}
	return reply, err
}

func TestASweepReadsOnlyTheDeadAndEachOnce(t *testing.T) {
	queue := newQueue(t)
	body, read := slices.Repeat([]byte{1}, 100_000), 0
	for i := range 60 {
		lease := queue.store.Keys.Lease("t", i)
		must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Processing, lease, body).Err())
		if i%2 == 0 {
			must(t, queue.store.Client.Set(ctx, lease, "t", time.Minute).Err())
		}
	}
	must(t, newSweeper(t, queue).sweep(ctx, queue.over(counting{queue.store.Caller, &read}), &leaseJudge{}))
	if n := queue.store.Client.LLen(ctx, queue.Name()).Val(); n != 30 || read != 30*len(body) {
		t.Error(n, read)
	}
}
