package delayed

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestRateKeyGivesEachTaskAnInstantOfItsOwn(t *testing.T) {
	ctx, queue := context.Background(), newQueue(t)
	client := connectTo(t, shared)
	for range 4 {
		if _, err := queue.Submit(ctx, NewGoTask("main.F").With(RateKey("customer-7", 2))); err != nil {
			t.Fatal(err)
		}
	}
	if n := client.LLen(ctx, queue.Name()).Val(); n != 1 {
		t.Errorf("%d tasks may begin at once, not 1", n)
	}
	var due []float64
	for _, z := range client.ZRangeWithScores(ctx, queue.Name()+"_scheduled", 0, -1).Val() {
		due = append(due, z.Score)
	}
	if len(due) != 3 || due[1]-due[0] != 500 || due[2]-due[1] != 500 {
		t.Errorf("due at %v", due)
	}
	if ttl := client.PTTL(ctx, queue.store.Keys.Pace("customer-7")).Val(); ttl <= 0 || ttl > 4*time.Second {
		t.Errorf("the key lives for %s", ttl)
	}
	if _, err := queue.Submit(ctx, NewGoTask("main.F").With(RateKey("customer-7", 2), After(time.Hour))); err != nil {
		t.Fatal(err)
	}
	last := client.ZRangeWithScores(ctx, queue.Name()+"_scheduled", -1, -1).Val()
	if len(last) != 1 || last[0].Score-slices.Max(due) < 3_500_000 {
		t.Errorf("one that begins in an hour is due at %v, after %v", last, due)
	}
}

func TestRateKeysThatCannotWorkAreRefused(t *testing.T) {
	ctx, queue := context.Background(), newQueue(t)
	for _, option := range []TaskOption{RateKey("", 1), RateKey("k", 0), RateKey("k", 1e9)} {
		if _, err := queue.Submit(ctx, NewGoTask("main.F").With(option)); !errors.Is(err, ErrInvalidTask) {
			t.Errorf("%v", err)
		}
	}
}
