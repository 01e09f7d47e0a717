package delayed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"
)

// successes are the lines that a worker logs of tasks that succeed.
func successes(t *testing.T, text []byte) (found []map[string]any) {
	t.Helper()
	return linesOf(t, text, "succeeded")
}

// linesOf are the lines that a worker logs of tasks that end so.
func linesOf(t *testing.T, text []byte, outcome string) (found []map[string]any) {
	t.Helper()
	for _, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		var fields map[string]any
		must(t, json.Unmarshal(line, &fields))
		if fields["outcome"] == outcome {
			found = append(found, fields)
		}
	}
	return found
}

func TestATaskThatSucceedsHasALine(t *testing.T) {
	queue := newQueue(t)
	handle := submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute)))
	enqueue(t, queue, NewGoTask("main.F"))
	var text bytes.Buffer
	worker := newWorker(t, queue, map[string]any{"main.F": func() {}}, Burst(), Concurrency(1), Logger(slog.New(slog.NewJSONHandler(&text, nil))))
	must(t, worker.Run(ctx))
	found := successes(t, text.Bytes())
	if len(found) != 2 {
		t.Fatal(text.String())
	}
	for _, fields := range found {
		if fields["queue"] != queue.Name() || fields["function"] != "main.F" || fields["seconds"].(float64) < 0 {
			t.Error(fields)
		}
	}
	first := found[0]
	if first["task_id"] != handle.ID || first["attempt"] != 1.0 || first["waited"].(float64) < 0 || found[1]["task_id"] != nil {
		t.Error(found)
	}
}

func TestOfManyThatSucceedThereIsALineForEachFunctionAndSecond(t *testing.T) {
	var text bytes.Buffer
	log := newTaskLog(slog.New(slog.NewJSONHandler(&text, nil)))
	now, count := time.Unix(1000, 0), 0
	for second := range 3 {
		for range 200 {
			if log.counts(now.Add(time.Duration(second)*time.Second), ofFunction{"q", "main.F"}, time.Millisecond) {
				count++
			}
		}
	}
	log.flush()
	if count != mostLines { // in the first second; then it is known that there are many
		t.Error(count)
	}
	tasks := 0.0
	for _, fields := range successes(t, text.Bytes()) {
		tasks += fields["tasks"].(float64)
	}
	if found := successes(t, text.Bytes()); len(found) != 3 || tasks != 600-mostLines {
		t.Error(tasks, text.String())
	}
}

func TestALogThatWritesSlowlyDoesNotSetThePace(t *testing.T) {
	release := make(chan struct{})
	log := newTaskLog(steadily(slog.New(blocking{release})))
	began := time.Now()
	for range mostLines {
		log.succeeded("q", "main.F", nil, began)
	}
	close(release) // else it would have waited for 100 ms at least
}

// blocking is a handler that writes nothing before it is released.
type blocking struct{ release chan struct{} }

func (b blocking) Enabled(context.Context, slog.Level) bool { return true }
func (b blocking) Handle(context.Context, slog.Record) error {
	<-b.release
	return nil
}
func (b blocking) WithAttrs([]slog.Attr) slog.Handler { return b }
func (b blocking) WithGroup(string) slog.Handler      { return b }

func TestLinesOfOtherEndsHaveTheSameFields(t *testing.T) {
	queue := newQueue(t)
	ids := map[string]string{}
	for path, outcomes := range map[string][]string{"main.Fail": {"failed", "retried"}, "main.Gone": {"unknown_function"}, "main.Cancelled": {"cancelled"}} {
		about := Metadata(map[string]string{"tenant": "a"})
		handle := submit(t, queue, NewGoTask(path).With(Track(), Retry(1), Backoff(Constant(time.Millisecond)), about))
		for _, outcome := range outcomes {
			ids[outcome] = handle.ID
		}
		if path == "main.Cancelled" {
			enqueue(t, queue, NewGoTask("main.Fail"))
		}
	}
	var text bytes.Buffer
	functions := map[string]any{
		"main.Fail":      func() error { return errors.New("no") },
		"main.Cancelled": func(ctx context.Context) error { return cancelSelf(ctx, queue) },
	}
	logger := Logger(slog.New(slog.NewJSONHandler(&text, nil)))
	must(t, newWorker(t, queue, functions, Burst(), Concurrency(1), UnreadyFor(0), logger).Run(ctx))
	for outcome, id := range ids {
		found := linesOf(t, text.Bytes(), outcome)
		if i := slices.IndexFunc(found, func(fields map[string]any) bool { return fields["task_id"] == id }); i < 0 {
			t.Error(outcome, text.String())
		} else if f := found[i]; f["queue"] != queue.Name() || f["function"] == nil || f["attempt"] == nil || f["metadata"] == nil ||
			(f["seconds"] == nil) != (outcome == "unknown_function") || (f["task_detail"] == nil) != (outcome == "cancelled") {
			t.Error(f)
		}
	}
	if found := linesOf(t, text.Bytes(), "failed"); len(found) != 2 { // one of them has no headers
		t.Error(text.String())
	}
}

// cancelSelf is a task that is cancelled while it runs.
func cancelSelf(ctx context.Context, queue *Queue) error {
	if _, err := queue.Handle(CurrentTask(ctx).ID).Cancel(ctx); err != nil {
		return err
	}
	return CurrentTask(ctx).CheckCancelled(ctx)
}
