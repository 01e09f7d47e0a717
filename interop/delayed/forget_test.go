package delayed

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestAWorkflowThatHasEndedIsForgottenAndItsKeyIsFree(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	submit := func() (*Run, error) {
		return queue.SubmitFlow(ctx, ChainOf(task("f.Number", 1), task("f.Number", 2)), FlowUnique("report"))
	}
	run, err := submit()
	must(t, err)
	if err := run.Forget(ctx); !errors.Is(err, ErrInvalidTask) || !strings.Contains(err.Error(), "it is running; cancel it first") {
		t.Error(err)
	}
	runAll(t, queue)
	must(t, run.Forget(ctx))
	for _, key := range queue.store.Client.Keys(ctx, "*"+run.flow+"*").Val() {
		if !strings.Contains(key, "_task_") || strings.HasSuffix(key, "AAAAAA") {
			t.Error(key, "is left")
		}
	}
	if _, err := run.Status(ctx); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
	if err := run.Forget(ctx); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
	again, err := submit()
	must(t, err)
	if again.ID == run.ID {
		t.Error(again.ID)
	}
	must(t, again.Cancel(ctx))
	runAll(t, queue)
	must(t, again.Forget(ctx))
}

func TestOneThatADeadLetterHasOpenedAgainIsNotForgotten(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	run, err := queue.SubmitFlow(ctx, ChainOf(task("f.Fail", 2), task("f.Number", 1)), ThenComplete(task("f.Number", 3)))
	must(t, err)
	runAll(t, queue)
	keys := queue.store.Keys
	must(t, queue.store.Client.RPush(ctx, keys.Joins(run.flow), "o0 0").Err()) // as the script does that puts it back
	must(t, queue.store.Client.RPush(ctx, keys.FlowOutbox, run.flow).Err())
	if err := run.Forget(ctx); !errors.Is(err, ErrInvalidTask) || !strings.Contains(err.Error(), "it is running") {
		t.Error(err)
	}
}

func TestATaskThatHasEndedIsForgotten(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	submit := func(task Task) *Handle {
		handle, err := queue.Submit(ctx, task)
		must(t, err)
		return handle
	}
	handle := submit(NewGoTask("f.Number", 1).With(Track()))
	if err := handle.Forget(ctx); !errors.Is(err, ErrInvalidTask) || !strings.Contains(err.Error(), "it is queued") {
		t.Error(err)
	}
	cancelled := submit(NewGoTask("f.Fail", 2).With(Track()))
	_, err := cancelled.Cancel(ctx)
	must(t, err)
	must(t, cancelled.Forget(ctx))
	runAll(t, queue)
	must(t, handle.Forget(ctx))
	if _, err := handle.Status(ctx); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
	if err := handle.Forget(ctx); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
	if err := submit(task("f.Number", 1)).Forget(ctx); !errors.Is(err, ErrNoResult) {
		t.Error(err)
	}
	if status, err := cancelled.Status(ctx); status.State != StateCancelled || err != nil { // it did not run
		t.Error(status, err)
	}
	for letter := range queue.DeadLetters(ctx) {
		t.Error(letter)
	}
}
