package delayed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
)

var traced = Trace{Parent: "00-4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b-a1a1a1a1a1a1a1a1-01", State: "a=b"}

// everyOption is as many headers as a task can have.
func everyOption() []TaskOption {
	return []TaskOption{
		Retry(1), Backoff(Exponential(time.Second)), RetryOn("a.B"), GiveUpOn("a.C"), Timeout(time.Second), HardTimeout(time.Minute),
		ResultTTL(time.Hour), ExpiresAt(time.Now()), Unique("u", UntilDone, time.Hour), Group("g"), ConcurrencyKey("c", 1),
		Metadata(map[string]string{"a": "b"}), func(o *taskOptions) { o.home = "home" },
	}
}

func TestATraceStandsInTwoHeaders(t *testing.T) {
	for _, task := range []Task{
		NewGoTask("main.F", 1, 2), NewPyTask("m:f", []int{1}, nil), NewGoTask("main.F").With(everyOption()...),
		NewPyTask("m:f", nil, nil, everyOption()...),
	} {
		b := newBirth()
		without, err := task.(asking).serialize(b)
		must(t, err)
		_, before, _ := wire.Peek(without)
		b.trace = traced
		with, err := task.(asking).serialize(b)
		must(t, err)
		_, after, _ := wire.Peek(with)
		want := before.All()
		if want == nil {
			want = map[string]any{}
		}
		want["traceparent"], want["tracestate"] = traced.Parent, traced.State
		if found := after.All(); !reflect.DeepEqual(found, want) {
			t.Errorf("%v\n%v", found, want)
		}
	}
}

func TestAroundEnqueues(t *testing.T) {
	ctx := context.Background()
	var seen []Sending
	refused := errors.New("not today")
	queue := newQueue(t, AroundEnqueue(func(ctx context.Context, s *Sending, next func(context.Context) error) error {
		if s.Path == "main.Refused" {
			return refused
		}
		s.Trace = traced
		err := next(ctx)
		seen = append(seen, *s)
		return err
	}))
	handle, err := queue.Submit(ctx, NewGoTask("main.F").With(Track()))
	must(t, err)
	must(t, queue.Enqueue(ctx, NewGoTask("main.F")))
	count, err := queue.EnqueueMany(ctx, slices.Values([]Task{NewGoTask("main.F"), NewPyTask("m:f", nil, nil)}))
	must(t, err)
	if err := queue.Enqueue(ctx, NewGoTask("main.Refused")); err != refused || count != 2 { //nolint:errorlint // it is ours
		t.Error(count, err)
	}
	must(t, queue.SetInterest(ctx, Everything(), "main.F", 0))
	copies, err := queue.Publish(ctx, map[string]int{"a": 1})
	must(t, err)
	_, err = queue.RemoveInterest(ctx)
	must(t, err)
	want := []Sending{
		{Queue: queue.Name(), Path: "main.F", Trace: traced, ID: handle.ID, Count: 1},
		{Queue: queue.Name(), Path: "main.F", Trace: traced, Count: 1},
		{Queue: queue.Name(), Trace: traced, Count: 2},
		{Trace: traced, Count: len(copies)},
	}
	if !slices.Equal(seen, want) {
		t.Errorf("%+v", seen)
	}
	tasks := queue.store.Client.LRange(ctx, queue.Name(), 0, -1).Val()
	for _, task := range tasks {
		if _, headers, _ := wire.Peek([]byte(task)); headers.All()["traceparent"] != traced.Parent {
			t.Errorf("%q", task)
		}
	}
	if len(tasks) != 5 {
		t.Error(tasks)
	}
}

func TestAJobTellsItsTraceAndHowAnAttemptEnds(t *testing.T) {
	var found []string
	queue := newQueue(t, AroundEnqueue(func(ctx context.Context, s *Sending, next func(context.Context) error) error {
		s.Trace = traced
		return next(ctx)
	}))
	enqueue(t, queue, NewGoTask("main.F").With(Retry(1)))
	worker := newWorker(t, queue, map[string]any{"main.F": func() error { return errors.New("no") }}, Burst(),
		Around(func(ctx context.Context, next func(context.Context) error) error {
			job, err := CurrentTask(ctx), next(ctx)
			for _, each := range []error{nil, err, RetryAfter(0), unrunnable(Expired, "late")} {
				outcome, kind := job.Outcome(ctx, each)
				found = append(found, outcome+" "+kind)
			}
			found = append(found, fmt.Sprint(job.Queue() == queue.Name(), job.Trace() == traced, job.Flow() == ""))
			return err
		}))
	must(t, worker.Run(context.Background()))
	rest := []string{"retried ", "failed expired", "true true true"}
	first := append([]string{"succeeded ", "retried errors.errorString"}, rest...)
	second := append([]string{"succeeded ", "failed errors.errorString"}, rest...)
	if want := append(first, second...); !slices.Equal(found, want) {
		t.Errorf("%q", found)
	}
}
