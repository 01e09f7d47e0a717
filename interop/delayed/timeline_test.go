package delayed

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"
)

func eventsOf(t *testing.T, handle *Handle) []string {
	t.Helper()
	rows, err := handle.Timeline(ctx)
	must(t, err)
	var events []string
	for _, row := range rows {
		events = append(events, row.Event)
	}
	return events
}

func TestATimelineTellsAttemptsOneByOne(t *testing.T) {
	queue := newQueue(t)
	start(t, queue, map[string]any{"m.Fail": func(context.Context) error { return errors.New("no") }})
	handle := submit(t, queue, NewGoTask("m.Fail").With(Track(), Retry(1)))
	handle.Result(soon(t), nil) //nolint:errcheck // it fails
	if found := eventsOf(t, handle); !reflect.DeepEqual(found, []string{"enqueued", "started", "retried", "started", "failed"}) {
		t.Errorf("%q", found)
	}
	rows, err := handle.Timeline(ctx)
	must(t, err)
	if rows[2].Attempt != 1 || rows[2].Detail == "" || rows[2].Worker == "" || rows[4].Attempt != 2 {
		t.Errorf("%+v", rows)
	}
}

func TestATimelineTellsWhoCancelled(t *testing.T) {
	queue := newQueue(t)
	handle := submit(t, queue, NewGoTask("m.F").With(Track(), After(time.Hour)))
	if _, err := handle.Cancel(ctx); err != nil {
		t.Fatal(err)
	}
	if found := eventsOf(t, handle); !reflect.DeepEqual(found, []string{"enqueued", "cancel", "cancelled"}) {
		t.Errorf("%q", found)
	}
	rows, err := handle.Timeline(ctx)
	must(t, err)
	if rows[1].Worker == "" || rows[2].Time.IsZero() {
		t.Errorf("%+v", rows)
	}
	if _, err := queue.Handle("0123456789abcdef").Timeline(ctx); !errors.Is(err, ErrUnknownTask) {
		t.Errorf("%v", err)
	}
}
