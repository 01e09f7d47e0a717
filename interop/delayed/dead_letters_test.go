package delayed

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

func lettersOf(t *testing.T, queue *Queue) []DeadLetter {
	t.Helper()
	var found []DeadLetter
	for letter, err := range queue.DeadLetters(ctx) {
		must(t, err)
		found = append(found, letter)
	}
	return found
}

// bury makes dead letters of the waiting tasks.
func bury(t *testing.T, queue *Queue, reason Reason) {
	t.Helper()
	for length(t, queue) > 0 {
		lease := queue.store.Keys.Lease(rdb.Token(), 0)
		_, err := queue.store.Take(ctx, []string{lease}, rdb.TakeOptions{TTL: time.Minute, Waiting: true})
		must(t, err)
		if done, err := queue.store.Send(ctx, queue.store.Burial(lease, rdb.Holds{}, string(reason), "because", "me")); err != nil || done != int64(1) {
			t.Fatal(done, err)
		}
		must(t, queue.store.Client.Del(ctx, lease).Err())
	}
}

func TestDeadLettersAreListedRetriedAndPurged(t *testing.T) {
	queue := newQueue(t)
	for i := range 120 {
		enqueue(t, queue, NewPyTask("m:f", []any{i}, nil))
	}
	must(t, queue.store.Client.RPush(ctx, queue.Name(), "\xc1").Err())
	must(t, queue.store.Client.RPush(ctx, queue.store.Keys.Noti, "1").Err())
	bury(t, queue, Failed)
	letters := lettersOf(t, queue)
	if len(letters) != 121 || letters[0].Task != "" || letters[1].Task != "m:f" || letters[1].Reason != Failed ||
		letters[1].Detail != "because" || letters[1].Worker != "me" || time.Since(letters[1].Time) > time.Minute {
		t.Fatalf("%d %+v", len(letters), letters[1])
	}
	for range queue.DeadLetters(ctx) {
		break
	}
	if n, err := queue.PurgeLetters(ctx, letters[:2]...); n != 2 || err != nil {
		t.Error(n, err)
	}
	if n, err := queue.RetryLetters(ctx, letters...); n != 119 || err != nil || length(t, queue) != 119 {
		t.Error(n, err)
	}
	if there, err := queue.RetryLetter(ctx, letters[5]); there || err != nil {
		t.Error("it is gone", err)
	}
	if first := queue.store.Client.LIndex(ctx, queue.Name(), 0).Val(); first != string(letters[2].Data) {
		t.Errorf("%q is not the first", first)
	}
	if n, err := queue.PurgeLetters(ctx); n != 0 || err != nil {
		t.Error(n, err)
	}
}

func TestATrackedLetterWaitsAgain(t *testing.T) {
	queue := newQueue(t)
	task := NewGoTask("main.F").With(Unique("k", UntilDone, time.Minute), ResultTTL(time.Minute))
	handle := submit(t, queue, task)
	worker := newWorker(t, queue, map[string]any{"main.F": func() error { return errors.New("no") }}, Burst())
	must(t, worker.Run(ctx))
	if stateOf(t, handle) != StateFailed {
		t.Fatal(stateOf(t, handle))
	}
	other := submit(t, queue, NewGoTask("main.F").With(Unique("k", UntilDone, time.Minute)))
	letters := lettersOf(t, queue)
	if _, err := queue.RetryLetter(ctx, letters[0]); !errors.Is(err, ErrDuplicate) || !strings.Contains(err.Error(), "stays") {
		t.Error(err)
	}
	if n, err := queue.RetryLetters(ctx, letters...); n != 0 || err != nil || len(lettersOf(t, queue)) != 1 {
		t.Error(n, err)
	}
	_, err := other.Cancel(ctx)
	must(t, err)
	if there, err := queue.RetryLetter(ctx, letters[0]); !there || err != nil || stateOf(t, handle) != StateQueued {
		t.Error(there, err)
	}
	if _, err := queue.Submit(ctx, NewGoTask("main.F").With(Unique("k", UntilDone, time.Hour))); !errors.Is(err, ErrDuplicate) {
		t.Error("it has its key again", err)
	}
	must(t, newWorker(t, queue, map[string]any{"main.F": func() {}}, Burst()).Run(ctx))
	if stateOf(t, handle) != StateSucceeded {
		t.Error(stateOf(t, handle))
	}
}

func TestAnExpiredLetterDoesNotExpireAgain(t *testing.T) {
	for name, task := range map[string]Task{
		"go":     NewGoTask("main.F", 1).With(ExpiresAt(time.Unix(1, 0)), Retry(2)),
		"python": NewPyTask("m:f", []any{1}, map[string]any{"a": 2}, ExpiresAt(time.Unix(1, 0)), Timeout(time.Second)),
		"alone":  NewGoTask("main.F").With(ExpiresAt(time.Unix(1, 0))),
	} {
		queue := newQueue(t)
		enqueue(t, queue, task)
		bury(t, queue, Expired)
		letters := lettersOf(t, queue)
		if n, err := queue.RetryLetters(ctx, letters...); n != 1 || err != nil {
			t.Error(n, err)
		}
		data := []byte(queue.store.Client.LIndex(ctx, queue.Name(), 0).Val())
		path, headers, ok := wire.Peek(data)
		_, before, _ := wire.Peek(letters[0].Data)
		if !ok || headers.Has(wire.Expires) || path != task.FuncPath() || len(headers.All()) != len(before.All())-1 {
			t.Errorf("%s: %q", name, data)
		}
		if !bytes.HasPrefix(data, letters[0].Data[:10]) {
			t.Errorf("%s: %q was %q", name, data, letters[0].Data)
		}
	}
}

func TestGlance(t *testing.T) {
	for data, want := range map[string]string{
		"\x91\xa1f": "f", "\xa1f": "f", "\x94\xa3m:f\xc0\xc0\x00": "m:f", "": "-", "\x90": "-", "\x91\x01": "-", "\xc1": "-", "\xa1fx": "-",
		"\x93\xa1f\xc0\x81\xa2id\xa1x": "f x", "\x95\xa3m:f\x90\x80\x00\x81\xa2id\xa1x": "m:f x", "\x93\xa1f\xc0\x01": "f",
	} {
		path, headers, ok := wire.Peek([]byte(data))
		if id, _ := headers.Text(wire.ID); id != "" {
			path += " " + id
		}
		if !ok {
			path = "-"
		}
		if path != want {
			t.Errorf("%q: %q, not %q", data, path, want)
		}
	}
}

func TestTooManyAndTooOldLettersAreRemoved(t *testing.T) {
	add := func(queue *Queue, id string) {
		must(t, queue.store.Client.Do(ctx, "XADD", queue.store.Keys.Dead, id, "task", "\x91\xa1f", "reason", "failed", "detail", "", "worker", "").Err())
	}
	count := func(queue *Queue) int64 { return queue.store.Client.XLen(ctx, queue.store.Keys.Dead).Val() }
	var log bytes.Buffer
	sweep := func(queue *Queue, options ...SweeperOption) {
		options = append(options, SweeperNoSignals(), SweeperLogger(slog.New(slog.NewTextHandler(&log, nil))))
		sweeper, err := NewSweeper([]*Queue{queue}, options...)
		must(t, err)
		must(t, sweeper.Sweep(ctx))
		before := count(queue)
		for i := range 300 {
			add(queue, fmt.Sprintf("%d-%d", time.Now().UnixMilli()+1000, i))
		}
		must(t, sweeper.Sweep(ctx)) // it does not look again so soon
		if count(queue) != before+300 {
			t.Errorf("%d letters after %d", count(queue), before)
		}
	}
	old, many, all := newQueue(t), newQueue(t), newQueue(t)
	for i := range 1000 {
		for _, queue := range []*Queue{old, many, all} {
			add(queue, fmt.Sprintf("%d-%d", 1000, i))
		}
	}
	sweep(old)
	sweep(many, DeadMax(250), DeadAge(0))
	sweep(all, DeadMax(0), DeadAge(0))
	if a, b, c := count(old), count(many), count(all); a > 400 || b > 700 || b < 550 || c != 1300 {
		t.Error(a, b, c)
	}
	if text := log.String(); !strings.Contains(text, "too old") || !strings.Contains(text, "too many") {
		t.Error(text)
	}
	for _, option := range []SweeperOption{DeadMax(-1), DeadAge(-1)} {
		if _, err := NewSweeper([]*Queue{old}, option); !errors.Is(err, ErrConfiguration) {
			t.Error(err)
		}
	}
}
