package delayed

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/redis/go-redis/v9"
)

// usurp puts another program's data under a key.
func usurp(t *testing.T, queue *Queue, key string) {
	t.Helper()
	must(t, queue.store.Client.Del(ctx, key).Err())
	must(t, queue.store.Client.ZAdd(ctx, key, redis.Z{Score: 1, Member: "x"}).Err())
}

func (q *Queue) isUsurped(key string) bool {
	return slices.Equal(q.store.Client.ZRange(ctx, key, 0, -1).Val(), []string{"x"})
}

func failedAs(t *testing.T, handle *Handle) TaskFailed {
	t.Helper()
	var failed *TaskFailed
	if err := handle.Result(soon(t), nil); !errors.As(err, &failed) {
		t.Fatalf("%v", err)
	}
	return *failed
}

func TestATaskThatCannotBeginIsBuriedWithTheNameOfTheKey(t *testing.T) {
	for name, c := range map[string]struct {
		option TaskOption
		key    func(rdb.Keys, string) string
	}{
		"state":                {Track(), rdb.Keys.Task},
		"key at its beginning": {Unique("u", WhileRunning, time.Hour), func(k rdb.Keys, _ string) string { return k.Unique("u") }},
		"slots":                {ConcurrencyKey("c", 1), func(k rdb.Keys, _ string) string { return k.Slots("c") }},
	} {
		t.Run(name, func(t *testing.T) {
			queue := newQueue(t)
			handle := submit(t, queue, NewGoTask("main.F").With(c.option, Retry(3)))
			key := c.key(queue.store.Keys, handle.ID)
			usurp(t, queue, key)
			other := submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute)))
			worker := newWorker(t, queue, map[string]any{"main.F": func() int { return 5 }}, Burst())
			must(t, worker.Run(ctx))
			letters := deadLetters(t, queue)
			if len(letters) != 1 || letters[0].reason != string(ForeignKey) || !strings.Contains(letters[0].detail, key) ||
				!strings.Contains(letters[0].detail, "is a zset and not a ") || !strings.Contains(letters[0].detail, "rename it") {
				t.Errorf("%q", letters)
			}
			must(t, other.Result(soon(t), nil))
			if held := queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val(); held != 0 || !queue.isUsurped(key) || worker.succeeded() != 1 {
				t.Error(held, worker.succeeded())
			}
			if handle.ID != "" && key != queue.store.Keys.Task(handle.ID) && failedAs(t, handle).Kind != string(ForeignKey) {
				t.Error("it did not say why")
			}
		})
	}
}

func TestWhatBecomesForeignMeanwhileIsLeftAlone(t *testing.T) {
	parts := map[string]func(rdb.Keys, string) string{
		"task":   rdb.Keys.Task,
		"unique": func(k rdb.Keys, _ string) string { return k.Unique("u") }, "slots": func(k rdb.Keys, _ string) string { return k.Slots("c") },
	}
	for part, key := range parts {
		for _, failure := range []error{nil, errors.New("no")} {
			queue := newQueue(t)
			handle := submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute), Unique("u", UntilDone, time.Hour), ConcurrencyKey("c", 1)))
			enqueue(t, queue, NewGoTask("main.Nothing"))
			name := key(queue.store.Keys, handle.ID)
			functions := map[string]any{"main.F": func() error { usurp(t, queue, name); return failure }, "main.Nothing": func() {}}
			worker := newWorker(t, queue, functions, Burst())
			must(t, worker.Run(ctx))
			letters := 0
			if failure != nil {
				letters = 1
			}
			if n := queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val(); n != 0 || len(deadLetters(t, queue)) != letters || !queue.isUsurped(name) ||
				worker.finished.Load() != 2 {
				t.Errorf("%s, %v: %d held, %q", part, failure, n, deadLetters(t, queue))
			}
		}
	}
}

func TestItIsAskedAgainUnlessAKeyOfTheTaskIsForeign(t *testing.T) {
	queue := newQueue(t)
	worker := newWorker(t, queue, nil)
	job := newJob(queue, call{})
	answers := []error{conn.ReplyError("OOM no memory"), conn.ReplyError("WRONGTYPE of a moment"), context.DeadlineExceeded, nil}
	asked := 0
	ask := func() (rdb.StartResult, error) { asked++; return rdb.StartBegins, answers[asked-1] }
	if err := worker.askToBegin(ctx, job, ask, rdb.TypedKey{Key: queue.store.Keys.Task("x"), Kind: "hash"}); err != nil || asked != len(answers) {
		t.Error(err, asked)
	}
	usurp(t, queue, queue.store.Keys.Processing) // then no task can be worked on
	usurp(t, queue, queue.store.Keys.Task("x"))
	asked = 0
	if err := worker.askToBegin(ctx, job, ask, rdb.TypedKey{Key: queue.store.Keys.Task("x"), Kind: "hash"}); err != nil || asked != len(answers) {
		t.Error(err, asked)
	}
}

func TestAResultThatIsTooLargeFailsAtOnce(t *testing.T) {
	queue := newQueue(t)
	large := func(n int) string { return strings.Repeat("x", n) }
	handle := submit(t, queue, NewGoTask("main.Large", 1000).With(Retry(3), ResultTTL(time.Minute)))
	fits := submit(t, queue, NewGoTask("main.Large", 900).With(ResultTTL(time.Minute)))
	unkept := submit(t, queue, NewGoTask("main.Large", 1000).With(Track()))
	worker := newWorker(t, queue, map[string]any{"main.Large": large}, Burst())
	if worker.resultSize != 64<<20 {
		t.Error(worker.resultSize)
	}
	worker.resultSize = 1000
	must(t, worker.Run(ctx))
	want := TaskFailed{Kind: "delayed.resultTooLarge",
		Message: "it returned string of 1014 bytes, and a result may have 1000: keep it elsewhere and return where it is"}
	if failed := failedAs(t, handle); failed.Kind != want.Kind || failed.Message != want.Message {
		t.Errorf("%+v", failed)
	}
	var text string
	must(t, fits.Result(soon(t), &text))
	if len(text) != 900 || stateOf(t, unkept) != StateSucceeded || len(deadLetters(t, queue)) != 1 {
		t.Error(len(text), deadLetters(t, queue))
	}
	if !queue.store.Client.HExists(ctx, queue.store.Keys.Task(unkept.ID), "result").Val() {
		t.Error("nothing says how it ended")
	}
}

func TestThoseWhoWaitHearThatATaskCannotBeRead(t *testing.T) {
	asked := []TaskOption{ResultTTL(time.Minute), Unique("u", UntilDone, time.Hour), Group("g"), ConcurrencyKey("c", 1)}
	for reason, c := range map[Reason]struct {
		task   Task
		spoilt func([]byte) []byte
	}{
		WrongLanguage: {NewPyTask("m:f", []any{1}, nil, asked...), func(data []byte) []byte { return data }},
		Undecodable:   {NewGoTask("main.F").With(asked...), func(data []byte) []byte { return bytes.Replace(data, []byte("\xc4\x01\xc0"), []byte{5}, 1) }},
		UnknownHeader: {NewGoTask("main.F").With(asked...), func(data []byte) []byte {
			data, err := wire.WithHeaders(data, wire.Header{Name: "!x", Value: 1})
			must(t, err)
			return data
		}},
	} {
		queue := newQueue(t)
		handle := submit(t, queue, c.task)
		data := queue.store.Client.LIndex(ctx, queue.Name(), 0).Val()
		must(t, queue.store.Client.LSet(ctx, queue.Name(), 0, c.spoilt([]byte(data))).Err())
		worker := newWorker(t, queue, nil, Burst(), UnreadyFor(0))
		must(t, worker.Run(ctx))
		letters := deadLetters(t, queue)
		if len(letters) != 1 || letters[0].reason != string(reason) || worker.buried.Load() != 1 {
			t.Fatalf("%s: %q", reason, letters)
		}
		if failed := failedAs(t, handle); failed.Kind != string(reason) || failed.Message != letters[0].detail || stateOf(t, handle) != StateFailed {
			t.Errorf("%+v", failed)
		}
		if n := queue.store.Client.Exists(ctx, queue.store.Keys.Unique("u"), queue.store.Keys.Processing, queue.store.Keys.Slots("c")).Val(); n != 0 {
			t.Errorf("%s: %d keys are left", reason, n)
		}
	}
}
