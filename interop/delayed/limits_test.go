package delayed

import (
	"errors"
	"math"
	"testing"
)

func TestPauseAndLimits(t *testing.T) {
	queue := newQueue(t)
	look := func(want Limits, paused bool) {
		t.Helper()
		if l, p, err := queue.Limits(ctx); err != nil || l != want || p != paused {
			t.Error(l, p, err)
		}
	}
	look(Limits{}, false)
	must(t, queue.Pause(ctx))
	must(t, queue.Limit(ctx, Limits{Concurrency: 4, Rate: 2.5}))
	look(Limits{4, 2.5, 2}, true)
	must(t, queue.Resume(ctx))
	must(t, queue.Limit(ctx, Limits{Rate: 0.1}))
	look(Limits{0, 0.1, 1}, false)
	must(t, queue.Limit(ctx, Limits{Rate: 10, Burst: 3}))
	look(Limits{0, 10, 3}, false)
	for _, l := range []Limits{{Concurrency: -1}, {Rate: -1}, {Rate: math.NaN()}, {Rate: math.Inf(1)}, {Burst: 2}, {Rate: 1, Burst: -1},
		{Concurrency: 1<<53 + 1}, {Rate: 1 << 54}, {Rate: 1, Burst: 1<<53 + 1}} {
		if err := queue.Limit(ctx, l); !errors.Is(err, ErrConfiguration) {
			t.Error(l, err)
		}
	}
	look(Limits{0, 10, 3}, false)
	must(t, queue.Limit(ctx, Limits{}))
	if !clean(t, queue) {
		t.Error("something is left")
	}
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Control, "concurrency", "x", "rate", "inf", "burst", "").Err())
	look(Limits{}, false)
}
