package delayed

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// soon is a context for what must come.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func submit(t *testing.T, queue *Queue, task Task) *Handle {
	t.Helper()
	handle, err := queue.Submit(ctx, task)
	must(t, err)
	return handle
}

func stateOf(t *testing.T, handle *Handle) State {
	t.Helper()
	status, err := handle.Status(ctx)
	must(t, err)
	return status.State
}

// sweeping runs a sweeper until the end of the test.
func sweeping(t *testing.T, queue *Queue, options ...SweeperOption) *Sweeper {
	t.Helper()
	sweeper, err := NewSweeper([]*Queue{queue}, append([]SweeperOption{SweeperNoSignals(), SweeperLogger(slog.New(slog.DiscardHandler))}, options...)...)
	must(t, err)
	done := background(func() { sweeper.Run(ctx) }) //nolint:errcheck // it returns nil
	t.Cleanup(func() { sweeper.Stop(); <-done })
	return sweeper
}

func TestAResultComesBack(t *testing.T) {
	queue := newQueue(t)
	type point struct {
		X int `msgpack:"x"`
	}
	start(t, queue, map[string]any{
		"m.Sum":   func(a, b int) (int, error) { return a + b, nil },
		"m.Value": func(s string) string { return s + "!" },
		"m.Both":  func(context.Context) (string, point, error) { return "a", point{3}, nil },
		"m.None":  func() error { return nil },
	})
	var sum int
	handle := submit(t, queue, NewGoTask("m.Sum", 1, 2).With(ResultTTL(time.Minute)))
	must(t, handle.Result(soon(t), &sum))
	if again := 0; sum != 3 || handle.Result(soon(t), &again) != nil || again != 3 { // everybody sees it
		t.Error(sum, again)
	}
	var text string
	must(t, submit(t, queue, NewGoTask("m.Value", "a").With(ResultTTL(time.Minute))).Result(soon(t), &text))
	var both []any
	must(t, submit(t, queue, NewGoTask("m.Both").With(ResultTTL(time.Minute))).Result(soon(t), &both))
	if want := []any{"a", map[string]any{"x": int64(3)}}; text != "a!" || !reflect.DeepEqual(both, want) {
		t.Errorf("%q %v", text, both)
	}
	none := any(1)
	must(t, submit(t, queue, NewGoTask("m.None").With(ResultTTL(time.Minute))).Result(soon(t), &none))
	tracked := submit(t, queue, NewGoTask("m.Value", "a").With(Track()))
	must(t, tracked.Result(soon(t), nil))
	if err := tracked.Result(soon(t), &text); none != nil || !errors.Is(err, ErrNoResult) || stateOf(t, tracked) != StateSucceeded {
		t.Error(none, err)
	}
	if err := submit(t, queue, NewGoTask("m.None")).Result(ctx, nil); !errors.Is(err, ErrNoResult) {
		t.Error(err)
	}
	if _, err := queue.Handle("nobody").Status(ctx); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
}

func TestAFailureComesBack(t *testing.T) {
	queue := newQueue(t)
	functions := map[string]any{
		"m.Fail":  func() error { return errors.New("no") },
		"m.Panic": func() { panic("oh") },
		"m.Exit":  func() { runtime.Goexit() },
		"m.Chan":  func() chan int { return make(chan int) },
		"m.Int":   func(int) {},
	}
	handle := submit(t, queue, NewGoTask("m.Fail").With(ResultTTL(time.Minute)))
	late, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := handle.Result(late, nil); !errors.Is(err, ErrNotDone) || stateOf(t, handle) != StateQueued {
		t.Fatal(err)
	}
	start(t, queue, functions, UnreadyFor(0))
	for _, c := range []struct {
		task          *GoTask
		kind, message string
	}{
		{NewGoTask("m.Fail"), "errors.errorString", "no"},
		{NewGoTask("m.Panic"), "panic", "panic: oh"},
		{NewGoTask("m.Exit"), "errors.errorString", "the task ended its goroutine (runtime.Goexit)"},
		{NewGoTask("m.Chan"), "delayed.notEncodable", "it returned chan int, which MessagePack cannot carry: msgpack: Encode(unsupported chan int)"},
		{NewGoTask("m.Int", "x"), "bad_arguments", "m.Int: x (string) does not fit int"},
		{NewGoTask("m.Nothing"), "unknown_function", `nothing is registered as "m.Nothing" in this worker`},
	} {
		handle := submit(t, queue, c.task.With(ResultTTL(time.Minute)))
		var failed *TaskFailed
		err := handle.Result(soon(t), nil)
		if !errors.As(err, &failed) || !errors.Is(err, ErrTaskFailed) || failed.Kind != c.kind || failed.Message != c.message {
			t.Errorf("%#v", err)
		}
		if stateOf(t, handle) != StateFailed {
			t.Error(c.kind)
		}
	}
	if n := len(deadLetters(t, queue)); n != 7 {
		t.Error(n)
	}
}

func TestRetriesWithBackOff(t *testing.T) {
	queue := newQueue(t)
	var attempts []int
	var calls atomic.Int32
	start(t, queue, map[string]any{
		"m.Flaky": func(ctx context.Context) (int, error) {
			attempts = append(attempts, CurrentTask(ctx).Attempt)
			if len(attempts) < 3 {
				return 0, errors.New("not yet")
			}
			return len(attempts), nil
		},
		"m.Fail": func() error { calls.Add(1); return &TimedOut{time.Second} },
		"m.Later": func(ctx context.Context) error {
			if CurrentTask(ctx).Attempt == 1 {
				return RetryAfter(10 * time.Millisecond)
			}
			return nil
		},
	})
	sweeping(t, queue)
	pauses := Backoff(Constant(20 * time.Millisecond).Exact())
	handle := submit(t, queue, NewGoTask("m.Flaky").With(Retry(5), pauses, ResultTTL(time.Minute)))
	var got int
	must(t, handle.Result(soon(t), &got))
	status, err := handle.Status(ctx)
	must(t, err)
	if !reflect.DeepEqual(attempts, []int{1, 2, 3}) || got != 3 || status.State != StateSucceeded || status.Error != "not yet" ||
		status.Attempt != 3 {
		t.Error(attempts, got, status)
	}
	for want, options := range map[int32][]TaskOption{
		3: {Retry(2)},
		1: {Retry(2), GiveUpOn("delayed.TimedOut")},
		4: {Retry(3), pauses, RetryOn("TimedOut")},
	} {
		calls.Store(0)
		err := submit(t, queue, NewGoTask("m.Fail").With(append(options, Track())...)).Result(soon(t), nil)
		if n := calls.Load(); n != want || !errors.Is(err, ErrTaskFailed) {
			t.Errorf("%d calls, not %d: %v", n, want, err)
		}
	}
	calls.Store(0)
	enqueue(t, queue, NewGoTask("m.Fail").With(Retry(1))) // not tracked
	eventually(t, "it is a dead letter", func() bool { return len(deadLetters(t, queue)) == 4 })
	must(t, submit(t, queue, NewGoTask("m.Later").With(Track())).Result(soon(t), nil)) // without a count
	if n := calls.Load(); n != 2 {
		t.Error(n)
	}
}

func TestExpired(t *testing.T) {
	queue := newQueue(t)
	past := ExpiresAt(time.Now().Add(-time.Second))
	handle := submit(t, queue, NewGoTask("m.F").With(past, Track()))
	enqueue(t, queue, NewGoTask("m.F").With(past))
	start(t, queue, map[string]any{"m.F": func() { t.Error("it began") }})
	if err := handle.Result(soon(t), nil); !errors.Is(err, ErrTaskExpired) {
		t.Error(err)
	}
	eventually(t, "both are dead letters", func() bool { return len(deadLetters(t, queue)) == 2 })
	for _, letter := range deadLetters(t, queue) {
		if letter.reason != "expired" {
			t.Error(letter)
		}
	}
}

func TestCancel(t *testing.T) {
	queue := newQueue(t)
	begun := make(chan struct{}, 1)
	functions := map[string]any{
		"m.Wait": func(ctx context.Context) error {
			begun <- struct{}{}
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), ErrTaskCancelled) {
				t.Error(context.Cause(ctx))
			}
			return ctx.Err()
		},
		"m.Other": func() error { return ErrTaskCancelled }, // another task's
	}
	waits := submit(t, queue, NewGoTask("m.Wait").With(Track()))
	later := submit(t, queue, NewGoTask("m.Wait").With(Track(), After(time.Hour)))
	runs := submit(t, queue, NewGoTask("m.Wait").With(Track(), Retry(3)))
	for handle, want := range map[*Handle]State{waits: StateQueued, later: StateScheduled} {
		if state, err := handle.Cancel(ctx); state != want || err != nil {
			t.Error(state, err)
		}
	}
	worker := start(t, queue, functions)
	<-begun
	if state, err := runs.Cancel(ctx); state != StateRunning || err != nil {
		t.Error(state, err)
	}
	for _, handle := range []*Handle{waits, later, runs} {
		if err := handle.Result(soon(t), nil); !errors.Is(err, ErrTaskCancelled) || stateOf(t, handle) != StateCancelled {
			t.Error(err)
		}
	}
	if err := submit(t, queue, NewGoTask("m.Other").With(Track())).Result(soon(t), nil); !errors.Is(err, ErrTaskFailed) {
		t.Error(err)
	}
	eventually(t, "it counts", func() bool { return worker.succeeded() == 0 && worker.finished.Load() == 3 })
	if letters := deadLetters(t, queue); len(letters) != 1 { // that of m.Other
		t.Error(letters)
	}
}

func TestTimeout(t *testing.T) {
	queue := newQueue(t)
	start(t, queue, map[string]any{
		"m.Wait": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"m.Late": func(ctx context.Context) string { <-ctx.Done(); return "all the same" },
	})
	limit := Timeout(20 * time.Millisecond)
	var failed *TaskFailed
	err := submit(t, queue, NewGoTask("m.Wait").With(limit, Track())).Result(soon(t), nil)
	if !errors.As(err, &failed) || failed.Kind != "delayed.TimedOut" || failed.Message != "it ran for longer than its timeout of 0.02 s" {
		t.Errorf("%#v", err)
	}
	var text string
	must(t, submit(t, queue, NewGoTask("m.Late").With(limit, ResultTTL(time.Minute))).Result(soon(t), &text))
	enqueue(t, queue, NewGoTask("m.Wait").With(limit)) // not tracked
	eventually(t, "it has failed", func() bool { return len(deadLetters(t, queue)) == 2 })
}

func TestUnique(t *testing.T) {
	queue := newQueue(t)
	go1, begun := make(chan struct{}), make(chan struct{}, 9)
	functions := map[string]any{"m.F": func() { begun <- struct{}{}; <-go1 }}
	key := func(mode UniqueMode) *GoTask { return NewGoTask("m.F").With(Unique("k", mode, time.Minute)) }
	first := submit(t, queue, key(UntilDone))
	var duplicate *Duplicate
	_, err := queue.Submit(ctx, key(UntilDone))
	if !errors.As(err, &duplicate) || !errors.Is(err, ErrDuplicate) || duplicate.ID != first.ID {
		t.Fatal(err)
	}
	if err := queue.Enqueue(ctx, key(UntilDone)); !errors.Is(err, ErrDuplicate) {
		t.Error(err)
	}
	if joined := submit(t, queue, key(UntilDone).With(Join())); joined.ID != first.ID {
		t.Error(joined)
	}
	start(t, queue, functions, Concurrency(2))
	<-begun
	go1 <- struct{}{}
	must(t, first.Result(soon(t), nil)) // and the key is free
	queued := submit(t, queue, key(WhileQueued))
	<-begun
	second := submit(t, queue, key(WhileQueued)) // the first one runs
	<-begun
	go1 <- struct{}{}
	go1 <- struct{}{}
	must(t, errors.Join(queued.Result(soon(t), nil), second.Result(soon(t), nil)))
	one, two := submit(t, queue, key(WhileRunning)), submit(t, queue, key(WhileRunning))
	<-begun
	waits := func(handle *Handle) bool {
		status, err := handle.Status(ctx)
		must(t, err)
		return status.State == StateQueued && status.Waits == errBusy.Error() && status.Attempt == 0
	}
	eventually(t, "the other waits", func() bool { return waits(one) || waits(two) })
	sweeping(t, queue)
	go1 <- struct{}{}
	<-begun
	go1 <- struct{}{}
	must(t, errors.Join(one.Result(soon(t), nil), two.Result(soon(t), nil)))
}

func TestProgress(t *testing.T) {
	queue := newQueue(t)
	told, leave := make(chan error), make(chan struct{})
	start(t, queue, map[string]any{
		"m.F": func(ctx context.Context) {
			told <- CurrentTask(ctx).Progress(ctx, 1, 4, "one")
			<-leave
		},
		"m.Plain": func(ctx context.Context) { told <- CurrentTask(ctx).Progress(ctx, 1, 4, "") },
	})
	handle := submit(t, queue, NewGoTask("m.F").With(Track()))
	must(t, <-told)
	status, err := handle.Status(ctx)
	must(t, err)
	close(leave)
	if status.State != StateRunning || *status.Progress != (Progress{1, 4, "one"}) || status.Worker == "" || status.Started.IsZero() || status.Enqueued.IsZero() {
		t.Errorf("%+v", status)
	}
	enqueue(t, queue, NewGoTask("m.Plain"))
	must(t, <-told)
}

func TestASweeperMovesWhatIsDue(t *testing.T) {
	queue := newQueue(t, DequeueTimeout(time.Hour)) // the worker does not look itself
	sweeper := sweeping(t, queue, SweepInterval(time.Hour))
	began := make(chan string, 9)
	start(t, queue, map[string]any{"m.F": func(name string) { began <- name }})
	eventually(t, "the sweeper listens", func() bool {
		clients := queue.store.Client.ClientList(ctx).Val()
		return strings.Count(clients, "cmd=blpop") >= 2
	})
	must(t, queue.Enqueue(ctx, NewGoTask("m.F", "later").With(After(time.Hour))))
	must(t, queue.Enqueue(ctx, NewGoTask("m.F", "second").With(After(2*time.Second))))
	must(t, queue.Enqueue(ctx, NewGoTask("m.F", "first").With(At(time.Now().Add(50*time.Millisecond)))))
	for _, want := range []string{"first", "second"} {
		select {
		case name := <-began:
			if name != want {
				t.Errorf("%s, not %s", name, want)
			}
		case <-time.After(time.Minute):
			t.Fatal("not in time: " + want)
		}
	}
	if n := queue.store.Client.ZCard(ctx, queue.store.Keys.Scheduled).Val(); n != 1 {
		t.Error(n)
	}
	sweeper.Stop()
}

func TestManyWithAndWithoutOptions(t *testing.T) {
	queue := newQueue(t)
	tasks := []Task{NewGoTask("m.F", 1), NewGoTask("m.F", 2).With(Track()), NewGoTask("m.F", 3), NewGoTask("m.F", 4).With(After(time.Hour))}
	count, err := queue.EnqueueMany(ctx, func(yield func(Task) bool) {
		for _, task := range tasks {
			if !yield(task) {
				return
			}
		}
	})
	waiting, _ := queue.Len(ctx)
	if count != 4 || err != nil || waiting != 3 || queue.store.Client.ZCard(ctx, queue.store.Keys.Scheduled).Val() != 1 {
		t.Error(count, err, waiting)
	}
}

// What Redis refuses to end must not be given back when the connection is there again: it has run.
func TestARefusedEndingComesBeforeAnythingIsGivenBack(t *testing.T) {
	for name, options := range map[string][]TaskOption{"plain": nil, "tracked": {Track()}} {
		t.Run(name, func(t *testing.T) {
			queue := newQueue(t)
			must(t, queue.store.Client.Set(ctx, queue.store.Keys.Dead, "foreign", 0).Err()) // no dead letter can be written
			var calls atomic.Int32
			log := &watched{}
			enqueue(t, queue, NewGoTask("m.Fail").With(options...))
			start(t, queue, map[string]any{"m.Fail": func() error { calls.Add(1); return errors.New("no") }}, Logger(slog.New(log)))
			eventually(t, "it has begun anew, several times", func() bool { return log.lost.Load() >= 3 })
			must(t, queue.store.Client.Del(ctx, queue.store.Keys.Dead).Err())
			eventually(t, "the ending is done", func() bool { return len(deadLetters(t, queue)) == 1 })
			if n, err := queue.Len(ctx); calls.Load() != 1 || n != 0 || err != nil {
				t.Error(calls.Load(), n, err)
			}
		})
	}
}

// watched is a log that counts how often Redis was lost.
type watched struct{ lost atomic.Int32 }

func (w *watched) Enabled(context.Context, slog.Level) bool { return true }
func (w *watched) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "lost Redis; trying again" {
		w.lost.Add(1)
	}
	return nil
}
func (w *watched) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w *watched) WithGroup(string) slog.Handler      { return w }

// After an outage a sweeper takes no task from a worker that has not been able to beat.
func TestASweeperWaitsAfterAnOutage(t *testing.T) {
	redisServer := own(t)
	queue := queueOn(t, redisServer)
	enqueue(t, queue, NewGoTask("m.F"))
	lease := queue.store.Keys.Lease("x", 0)
	taken, err := queue.store.Take(ctx, []string{lease}, rdb.TakeOptions{Holder: "x", TTL: time.Hour, Waiting: true})
	if err != nil || len(taken.Tasks) != 1 {
		t.Fatal(taken, err)
	}
	sweeper := sweeping(t, queue, SweepInterval(50*time.Millisecond), func(s *Sweeper) { s.settling = 2 * time.Second })
	registered := func() bool { return queue.store.Client.HLen(ctx, queue.store.Keys.Workers).Val() == 1 }
	eventually(t, "it sweeps", registered)
	redisServer.kill()
	must(t, redisServer.start(true))
	pipe := queue.store.Client.TxPipeline() // what a failover or a long outage does to leases and to the register
	pipe.Del(ctx, lease, queue.store.Keys.Workers)
	_, err = pipe.Exec(ctx)
	must(t, err)
	eventually(t, "it is there again", registered)
	must(t, queue.store.Client.RPush(ctx, queue.store.Keys.Noti, "1", "1").Err())
	eventually(t, "it repairs meanwhile", func() bool { return queue.store.Client.LLen(ctx, queue.store.Keys.Noti).Val() == 0 })
	must(t, queue.store.Client.Set(ctx, lease, "x", time.Hour).Err()) // the worker beats
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Workers, queue.store.Keys.Own("dead"), "").Err())
	eventually(t, "it judges again", registered)
	if queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() != 1 || sweeper.recovered != 0 {
		t.Error("it took the task from a living worker")
	}
}
