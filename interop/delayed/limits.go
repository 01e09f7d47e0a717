package delayed

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// Limits are what operators want of a queue, for all workers together; 0 is no limit.
type Limits struct {
	Concurrency int     // tasks that may run at once
	Rate        float64 // tasks that may begin in a second, on average
	Burst       int     // tasks that may begin at once after a rest; by default as many as in a second, and at least one
}

// Pause lets no worker take a task from this queue from now on. What runs goes on, and tasks can be enqueued. Workers learn of it at
// their next beat (every 3 s).
func (q *Queue) Pause(ctx context.Context) error {
	_, err := q.store.Caller.Call(ctx, "HSET", q.store.Keys.Control, "paused", "1")
	return err
}

// Resume is the opposite of Pause. Workers learn of it at their next beat, and look within their dequeue timeout.
func (q *Queue) Resume(ctx context.Context) error {
	_, err := q.store.Caller.Call(ctx, "HDEL", q.store.Keys.Control, "paused")
	return err
}

// Limit sets all limits of this queue. The error wraps ErrConfiguration for numbers that would let nothing run; for that there is
// Pause.
func (q *Queue) Limit(ctx context.Context, l Limits) error {
	switch {
	case l.Concurrency < 0 || l.Burst < 0 || !(l.Rate >= 0) || math.IsInf(l.Rate, 0):
		return fmt.Errorf("%w: limits are numbers above 0, or 0 for none; to stop a queue, pause it", ErrConfiguration)
	case l.Burst > 0 && l.Rate == 0:
		return fmt.Errorf("%w: Burst goes with a Rate", ErrConfiguration)
	case int64(max(l.Concurrency, l.Burst)) > wire.MostCount || l.Rate > wire.MostCount:
		return fmt.Errorf("%w: limits are at most 2^53: leave out what is more", ErrConfiguration)
	case l == Limits{}:
		_, err := q.store.Caller.Call(ctx, "HDEL", q.store.Keys.Control, "concurrency", "rate", "burst")
		return err
	case l.Rate > 0 && l.Burst == 0:
		l.Burst = max(1, int(math.RoundToEven(min(l.Rate, math.MaxInt32))))
	}
	text := func(n float64) string {
		if n == 0 {
			return "" // an empty value is none
		}
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	// One command, so that there is no moment without limits.
	_, err := q.store.Caller.Call(ctx, "HSET", q.store.Keys.Control, "concurrency", text(float64(l.Concurrency)), "rate", text(l.Rate),
		"burst", text(float64(l.Burst)))
	return err
}

// Limits are the limits of this queue at the moment, and whether it is paused. What makes no sense there is no limit.
func (q *Queue) Limits(ctx context.Context) (l Limits, paused bool, err error) {
	reply, err := q.store.Caller.Call(ctx, "HGETALL", q.store.Keys.Control)
	fields := rdb.Fields(reply)
	number := func(name string) float64 {
		n, err := strconv.ParseFloat(fields[name], 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return 0
		}
		return n
	}
	_, paused = fields["paused"]
	return Limits{int(number("concurrency")), number("rate"), int(number("burst"))}, paused, err
}
