package delayed

import (
	"context"
	"time"
)

// Deferred is what Queue.Defer says.
type Deferred int

// What it says.
const (
	DeferSuperseded Deferred = iota // the lease does not hold the task any more
	DeferDone                       // the task waits
	DeferOver                       // it has waited for as long as it may; nothing has happened
)

func (q *Queue) deferring(lease, id string, to spot, limit time.Duration, cause string) (keys, args []string) {
	k := q.Keys
	if id == "" {
		id = token()
	}
	keys = []string{k.Processing, k.Lost, k.Scheduled, k.Wake, k.Deferred, k.Task(id)}
	return keys, []string{lease, id, milliseconds(limit), to.word, cause}
}

// deferredOf is the reply to the script defer: what it says, the time until the task is tried again, and the time since it was deferred
// first.
func deferredOf(reply any) (said Deferred, pause, age time.Duration) {
	values, _ := reply.([]any)
	var n [3]int64
	for i := range min(len(values), len(n)) {
		n[i], _ = values[i].(int64)
	}
	return Deferred(n[0]), span(n[1]), span(n[2])
}

// Defer ends a lease whose task cannot run here and now, and may elsewhere or later: it waits, unchanged, and longer each time, until limit
// has passed since the first time. id is that of a tracked task, or empty; cause is why it cannot run.
func (q *Queue) Defer(ctx context.Context, lease, id string, limit time.Duration, cause string) (said Deferred, age time.Duration, err error) {
	keys, args := q.deferring(lease, id, q.Keys.tail(), limit, cause)
	reply, err := q.run(ctx, "defer", keys, args...)
	said, _, age = deferredOf(reply)
	return said, age, err
}
