package delayed

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// lose lets a task be lost three times; it is taken by one that dies.
func lose(t *testing.T, queue *Queue, sweep func()) {
	t.Helper()
	for range 3 {
		taken, err := queue.store.Take(ctx, []string{"x"}, rdb.TakeOptions{TTL: time.Minute, Waiting: true})
		if err != nil || len(taken.Tasks) != 1 {
			t.Fatal(taken, err)
		}
		must(t, queue.store.Client.Del(ctx, "x").Err())
		sweep()
	}
}

func newSweeper(t *testing.T, queue *Queue) *Sweeper {
	t.Helper()
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals(), SweeperLogger(slog.New(slog.DiscardHandler)))
	must(t, err)
	return sweeper
}

func wasLost(t *testing.T, handle *Handle) {
	t.Helper()
	var failed *TaskFailed
	err := handle.Result(soon(t), nil)
	if !errors.As(err, &failed) || *failed != (TaskFailed{"lost", "its worker died or lost its lease 3 times", ""}) || stateOf(t, handle) != StateFailed {
		t.Errorf("%#v", err)
	}
}

func TestThoseWhoWaitHearThatATaskIsLost(t *testing.T) {
	queue := newQueue(t)
	sweeper := newSweeper(t, queue)
	tasks := []func() Task{
		func() Task {
			return NewGoTask("main.F").With(ResultTTL(time.Minute), Unique("k", UntilDone, time.Hour))
		},
		func() Task { return NewPyTask("m:f", []any{1}, nil, Track(), Unique("k", UntilDone, time.Hour)) },
	}
	for _, task := range tasks { // the second one finds a sweeper that knows the letters
		handle := submit(t, queue, task())
		if _, err := queue.Submit(ctx, task()); !errors.Is(err, ErrDuplicate) {
			t.Fatal(err)
		}
		lose(t, queue, func() { must(t, sweeper.Sweep(ctx)) })
		wasLost(t, handle)
	}
	if n := queue.store.Client.Exists(ctx, queue.store.Keys.Unique("k")).Val(); n != 0 || len(deadLetters(t, queue)) != 2 {
		t.Error("the key is not free")
	}
}

// A sweeper of an older version buries, and leaves the telling to others.
func TestASweeperTellsOfWhatOlderOnesHaveBuried(t *testing.T) {
	queue := newQueue(t)
	for range 60 { // others, of which nobody has to be told: more than a page
		enqueue(t, queue, NewGoTask("main.F"))
		taken, err := queue.store.Take(ctx, []string{"y"}, rdb.TakeOptions{TTL: time.Minute, Waiting: true})
		if err != nil || len(taken.Tasks) != 1 {
			t.Fatal(taken, err)
		}
		_, err = queue.store.Send(ctx, queue.store.Burial("y", rdb.Holds{}, string(Failed), "no", "me"))
		must(t, err)
	}
	handle := submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute)))
	data := queue.store.Client.LPop(ctx, queue.store.Keys.Queue).Val()
	detail := "its worker died or lost its lease 3 times"
	must(t, queue.store.Client.Do(ctx, "XADD", queue.store.Keys.Dead, "*", "task", data, "reason", "lost", "detail", detail, "worker", "").Err())
	if state := stateOf(t, handle); state != StateQueued {
		t.Fatal(state)
	}
	sweeping(t, queue, SweepInterval(time.Hour))
	wasLost(t, handle)
}

func TestASweeperReadsEachLetterOnce(t *testing.T) {
	queue := newQueue(t)
	sweeper := newSweeper(t, queue)
	for range 120 {
		must(t, queue.store.Client.Do(ctx, "XADD", queue.store.Keys.Dead, "*", "task", "\xc1", "reason", "lost", "detail", "", "worker", "").Err())
	}
	newest := queue.store.Client.XRevRangeN(ctx, queue.store.Keys.Dead, "+", "-", 1).Val()[0].ID
	must(t, sweeper.Sweep(ctx))
	if sweeper.retentionOf(queue).notified != newest {
		t.Error(sweeper.retentionOf(queue).notified)
	}
	for range 120 {
		must(t, queue.store.Client.Do(ctx, "XADD", queue.store.Keys.Dead, "*", "task", "\x91\xa1f", "reason", "lost", "detail", "", "worker", "").Err())
	}
	newest = queue.store.Client.XRevRangeN(ctx, queue.store.Keys.Dead, "+", "-", 1).Val()[0].ID
	must(t, sweeper.Sweep(ctx))
	if sweeper.retentionOf(queue).notified != newest {
		t.Error(sweeper.retentionOf(queue).notified)
	}
}

func TestHeadersInEitherLanguage(t *testing.T) {
	for _, task := range []Task{NewGoTask("main.F", 1).With(Track()), NewPyTask("m:f", []any{1}, nil, Track()), NewPyTask("m:f", nil, nil, Retry(2), Track())} {
		data, err := task.Serialize()
		must(t, err)
		if _, headers, _ := wire.Peek(data); headers.TrackedID() == "" {
			t.Errorf("%q", data)
		}
	}
	for _, data := range []string{"", "\xc1", "\x90", "\x91\x01", "\x95\x01\x01\x01\x01\x80", "\xa1f", "\x92\xa1f\xc0", "\x93\xa1f\xc0\xc0", "\x95\xa3m:f\xc0\xc0\xc0\x01"} {
		if _, headers, _ := wire.Peek([]byte(data)); headers.Some() {
			t.Errorf("%q: %v", data, headers.All())
		}
	}
}

// lostLetters are of an older sweeper, which tells nobody.
func lostLetters(t *testing.T, queue *Queue, count int) (states []string) {
	t.Helper()
	for range count {
		handle := submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute)))
		states = append(states, queue.store.Keys.Task(handle.ID))
	}
	for _, data := range queue.store.Client.LRange(ctx, queue.Name(), 0, -1).Val() {
		must(t, queue.store.Client.Do(ctx, "XADD", queue.store.Keys.Dead, "*", "task", data, "reason", "lost", "detail", "d", "worker", "w").Err())
	}
	must(t, queue.store.Client.Unlink(ctx, queue.Name(), queue.store.Keys.Noti).Err())
	return states
}

func TestNoLetterIsRemovedBeforeItsTaskIsToldOf(t *testing.T) {
	queue := newQueue(t)
	states := lostLetters(t, queue, 1300)
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals(), SweeperLogger(slog.New(slog.DiscardHandler)), DeadMax(10))
	must(t, err)
	must(t, sweeper.trimIfTime(ctx, queue))
	if n := len(deadLetters(t, queue)); n != 1300 {
		t.Error(n)
	}
	for range 2 {
		must(t, sweeper.trimIfTime(ctx, queue))
	}
	told := 0
	for _, key := range states {
		if queue.store.Client.HExists(ctx, key, "result").Val() {
			told++
		}
	}
	if n := len(deadLetters(t, queue)); n >= 300 || told != 1300 {
		t.Error(n, told)
	}
}
