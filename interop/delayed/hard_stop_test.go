package delayed

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const hard = 50 * time.Millisecond

// A process of its own: it ends the late task, gives back the other, and leaves with status 3.
func TestATaskPastItsHardTimeoutEndsItsProcess(t *testing.T) {
	queue, path := newQueue(t), filepath.Join(t.TempDir(), "log")
	enqueue(t, queue, NewGoTask("main.SleepAppend", path, "other", 60.0))
	worker := run(t, queue, "delayed-worker", "-concurrency", "2")
	begun(t, path)
	handle := submit(t, queue, NewGoTask("main.Sleep", 60.0).With(HardTimeout(hard), ResultTTL(time.Minute)))
	var failed *TaskFailed
	want := TaskFailed{"timed_out", "it ran for longer than its hard timeout of 0.05 s; its process was ended",
		"it ran for longer than its hard timeout of 0.05 s; its process was ended"}
	if err := handle.Result(soon(t), nil); !errors.As(err, &failed) || *failed != want || stateOf(t, handle) != StateFailed {
		t.Errorf("%#v", err)
	}
	if status := worker.status(t); status != exitForced {
		t.Errorf("status %d", status)
	}
	letters := deadLetters(t, queue)
	if len(letters) != 1 || letters[0].reason != "timed_out" || letters[0].detail != want.Message {
		t.Errorf("%q", letters)
	}
	keys := keysLeft(queue)
	slices.Sort(keys)
	left := []string{queue.Name(), queue.store.Keys.Dead, queue.store.Keys.Noti, queue.store.Keys.Task(handle.ID)}
	slices.Sort(left)
	if !slices.Equal(keys, left) || lengths(t, queue) != [2]int64{1, 1} {
		t.Error(keys, lengths(t, queue))
	}
}

// forced runs a worker in this process until it has to leave.
func forced(t *testing.T, queue *Queue, functions map[string]any, options ...WorkerOption) *Worker {
	t.Helper()
	worker := newWorker(t, queue, functions, options...)
	if err := worker.Run(soon(t)); !errors.Is(err, ErrForced) {
		t.Errorf("it ended with %v", err)
	}
	return worker
}

// stuck are functions that do not end before the test does, whatever their context says.
func stuck(t *testing.T) map[string]any {
	t.Helper()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	return map[string]any{"main.Stuck": func() { <-release }, "main.Deaf": func(context.Context) error { <-release; return nil }}
}

func TestALateTaskIsRetriedOrBuried(t *testing.T) {
	for name, c := range map[string]struct {
		options  []TaskOption
		waiting  int64
		buried   int
		attempts int64
	}{
		"a retry is left":       {[]TaskOption{Retry(1)}, 1, 0, 1},
		"tracked, with a retry": {[]TaskOption{Retry(1), Track()}, 1, 0, 1},
		"retried on its type":   {[]TaskOption{Retry(1), RetryOn("TimedOut")}, 1, 0, 1},
		"not on another":        {[]TaskOption{Retry(1), RetryOn("Other")}, 0, 1, 0},
		"given up":              {[]TaskOption{Retry(1), GiveUpOn("delayed.TimedOut")}, 0, 1, 0},
		"none is left":          {nil, 0, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue := newQueue(t)
			enqueue(t, queue, NewGoTask("main.Stuck").With(append(c.options, HardTimeout(hard))...))
			worker := forced(t, queue, stuck(t))
			letters := deadLetters(t, queue)
			if n := lengths(t, queue); n != [2]int64{c.waiting, c.waiting} || len(letters) != c.buried {
				t.Fatal(n, letters)
			}
			if c.buried > 0 && letters[0].reason != "timed_out" || worker.succeeded() != 0 || worker.retried.Load()+worker.failed.Load() != 1 {
				t.Error(letters, worker.succeeded(), worker.retried.Load(), worker.failed.Load())
			}
			if c.waiting > 0 {
				task, err := decode([]byte(queue.store.Client.LIndex(ctx, queue.Name(), 0).Val()))
				must(t, err)
				if headers := task.headers.All(); headers["attempt"] != c.attempts || headers["error"] != (&hardTimeout{hard}).Error() {
					t.Error(headers)
				}
			}
			if n := queue.store.Client.Exists(ctx, queue.store.Keys.Processing, queue.store.Keys.Workers).Val(); n != 0 {
				t.Error("traces are left")
			}
		})
	}
}

func TestATaskWithinItsHardTimeoutIsLeftAlone(t *testing.T) {
	queue := newQueue(t)
	for range 20 {
		enqueue(t, queue, NewGoTask("main.F").With(HardTimeout(10*time.Second)), NewGoTask("main.Fail").With(HardTimeout(10*time.Second), Track()))
	}
	worker := newWorker(t, queue, map[string]any{"main.F": func() {}, "main.Fail": func() error { return errors.New("no") }}, Burst(), Concurrency(2))
	must(t, worker.Run(ctx))
	if worker.succeeded() != 20 || worker.failed.Load() != 20 || worker.forced.Load() {
		t.Error(worker.succeeded(), worker.failed.Load())
	}
	for _, s := range worker.slots {
		if s.running.Load() != nil {
			t.Error("a task is still to be seen")
		}
	}
}

// All that are late at the same moment are ended, and what waits behind them goes back.
func TestSeveralAreLate(t *testing.T) {
	queue := newQueue(t)
	var handles []*Handle
	for range 4 {
		handles = append(handles, submit(t, queue, NewGoTask("main.Stuck").With(HardTimeout(hard), Track())))
	}
	worker := newWorker(t, queue, stuck(t), Concurrency(4))
	begun := func() bool { return queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() == 4 }
	done := background(func() { worker.Run(ctx) }) //nolint:errcheck // it is ErrForced
	eventually(t, "all run", func() bool { return begun() || worker.forced.Load() })
	<-done
	failed := 0
	for _, handle := range handles {
		if stateOf(t, handle) == StateFailed {
			failed++
		}
	}
	if n := lengths(t, queue)[0]; failed == 0 || int64(failed)+n != 4 || len(deadLetters(t, queue)) != failed {
		t.Error(failed, n)
	}
}

func TestAHardCancelEndsTheTaskAndTheProcess(t *testing.T) {
	queue := newQueue(t)
	handle := submit(t, queue, NewGoTask("main.Deaf").With(ResultTTL(time.Minute)))
	enqueue(t, queue, NewGoTask("main.Stuck"))
	go func() {
		eventually(t, "both run", func() bool {
			return queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() == 2 && stateOf(t, handle) == StateRunning
		})
		if state, err := handle.CancelHard(ctx); state != StateRunning || err != nil {
			t.Error(state, err)
		}
	}()
	worker := forced(t, queue, stuck(t), Concurrency(2), Beat(quick))
	if err := handle.Result(soon(t), nil); !errors.Is(err, ErrTaskCancelled) || stateOf(t, handle) != StateCancelled {
		t.Error(err)
	}
	if n := lengths(t, queue); n != [2]int64{1, 1} || len(deadLetters(t, queue)) != 0 || worker.succeeded() != 0 {
		t.Error(n, worker.succeeded())
	}
}

// It has a moment to end by itself, and then nothing ends with it.
func TestATaskThatListensIsNotEndedHard(t *testing.T) {
	queue := newQueue(t)
	handle := submit(t, queue, NewGoTask("main.Listen").With(Track()))
	begun := make(chan struct{})
	worker := start(t, queue, map[string]any{"main.Listen": func(ctx context.Context) error { close(begun); <-ctx.Done(); return ctx.Err() }})
	<-begun
	if state, err := handle.CancelHard(ctx); state != StateRunning || err != nil {
		t.Error(state, err)
	}
	if err := handle.Result(soon(t), nil); !errors.Is(err, ErrTaskCancelled) || worker.forced.Load() {
		t.Error(err)
	}
}

func TestACooperativeCancelEndsNothing(t *testing.T) {
	queue := newQueue(t)
	handle := submit(t, queue, NewGoTask("main.Wait").With(Track()))
	begun, release := make(chan struct{}), make(chan struct{})
	worker := start(t, queue, map[string]any{"main.Wait": func() { close(begun); <-release }}, Beat(quick))
	<-begun
	if state, err := handle.Cancel(ctx); state != StateRunning || err != nil {
		t.Fatal(state, err)
	}
	turned(t, queue, 1)
	turned(t, queue, 1)
	close(release)
	must(t, handle.Result(soon(t), nil))
	eventually(t, "it counts", func() bool { return worker.succeeded() == 1 })
}

// Only tracked tasks are asked for.
func TestWhoIsAskedWhetherItIsCancelled(t *testing.T) {
	queue := queueOn(t, own(t))
	begun, release := make(chan struct{}, 2), make(chan struct{})
	functions := map[string]any{"main.Wait": func() { begun <- struct{}{}; <-release }}
	start(t, queue, functions, Concurrency(2), Beat(quick))
	enqueue(t, queue, NewGoTask("main.Wait"), NewGoTask("main.Wait").With(HardTimeout(time.Hour)))
	<-begun
	<-begun
	must(t, queue.store.Client.ConfigResetStat(ctx).Err())
	for range 3 {
		turned(t, queue, 1)
	}
	if n := calls(t, queue)["hget"]; n != 0 {
		t.Error(n)
	}
	release <- struct{}{}
	enqueue(t, queue, NewGoTask("main.Wait").With(Track()))
	<-begun
	eventually(t, "the tracked one is asked for", func() bool { return calls(t, queue)["hget"] > 3 })
	close(release)
}
