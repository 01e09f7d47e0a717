package delayed

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/delayedq/delayed/interop/internal/wire"
)

// interested gives a queue an interest until the test ends.
func interested(t *testing.T, q *Queue, match [][2]string, function string) {
	t.Helper()
	must(t, q.SetInterest(context.Background(), match, function, 0))
	t.Cleanup(func() {
		_, err := q.RemoveInterest(context.Background())
		must(t, err)
	})
}

func TestPublish(t *testing.T) {
	ctx := context.Background()
	first, second := newQueue(t), newQueue(t)
	interested(t, first, [][2]string{{"event", "order.*"}, {"*", "*"}}, "m:f")
	interested(t, second, [][2]string{{"event", "exact:order.paid"}}, "main.Paid")

	publisher := newQueue(t)
	copies, err := publisher.Publish(ctx, map[string]any{"event": "order.paid"})
	must(t, err)
	if len(copies) != 2 || copies[0].Queue != first.Name() || copies[1].Queue != second.Name() {
		t.Fatalf("copies: %v", copies)
	}
	for i, q := range []*Queue{first, second} {
		reply, err := q.store.Caller.Call(ctx, "LINDEX", q.Name(), "0")
		must(t, err)
		path, headers, ok := wire.Peek([]byte(reply.(string)))
		if want := []string{"m:f", "main.Paid"}[i]; !ok || path != want || headers.UntrackedID() != copies[i].ID {
			t.Errorf("%s has a call of %s, with the id %s, not %s", q.Name(), path, headers.UntrackedID(), copies[i].ID)
		}
	}

	interests, err := publisher.Interests(ctx)
	must(t, err)
	if want := (Interest{second.Name(), [][2]string{{"event", "exact:order.paid"}}, "main.Paid", 0}); len(interests) != 2 || !reflect.DeepEqual(interests[1], want) {
		t.Errorf("interests: %v", interests)
	}
	removed, err := first.RemoveInterest(ctx)
	must(t, err)
	if copies, err = publisher.Publish(ctx, struct {
		Event string `msgpack:"event"`
	}{"order.paid"}); err != nil || !removed || len(copies) != 1 {
		t.Errorf("after the removal: %v, %v", copies, err)
	}
}

func TestWhatCannotBePublished(t *testing.T) {
	q := newQueue(t)
	many := map[int]int{}
	for i := range 1001 {
		many[i] = i
	}
	for _, data := range []any{many, make(chan int)} {
		if _, err := q.Publish(context.Background(), data); !errors.Is(err, ErrInvalidTask) {
			t.Errorf("%T: %v", data, err)
		}
	}
	for _, err := range []error{
		q.SetInterest(context.Background(), nil, "m:f", 0),
		q.SetInterest(context.Background(), [][2]string{{"regex:(?=a)", "*"}}, "m:f", 0),
	} {
		if !errors.Is(err, ErrConfiguration) {
			t.Errorf("not refused: %v", err)
		}
	}
}
