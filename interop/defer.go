package delayed

import (
	"context"
	"time"
)

// Deferral is what Queue.Defer says.
type Deferral int

// What it says.
const (
	DeferSuperseded Deferral = iota // the lease does not hold a task any more
	DeferWaits                      // the task waits
	DeferTooLate                    // it has waited for too long, and is still held
	DeferCancelled                  // it has been cancelled, and is still held
)

// deferring is the command of Defer. word is what announces the task where it will wait.
func (q *Queue) deferring(lease, id string, limit time.Duration, word, cause string) (keys, args []string) {
	k := q.Keys
	if id == "" {
		id = token()
	}
	keys = []string{k.Processing, k.Lost, k.Scheduled, k.Wake, k.Deferred, k.Task(id)}
	return keys, []string{lease, id, milliseconds(limit), word, cause}
}

// deferredFrom is what the reply of the script says, and for how long the task has waited in all.
func deferredFrom(reply any) (Deferral, time.Duration) {
	values, _ := reply.([]any)
	var numbers [3]int64
	for i := range min(len(values), len(numbers)) {
		numbers[i], _ = values[i].(int64)
	}
	return Deferral(numbers[0]), span(numbers[2])
}

// Defer ends a lease: its task waits, as it came, for a worker that can run it, each time for longer. If it has waited for limit in all,
// nothing happens. id is that of a tracked task, or empty; cause is why it cannot run here.
func (q *Queue) Defer(ctx context.Context, lease, id string, limit time.Duration, cause string) (Deferral, error) {
	keys, args := q.deferring(lease, id, limit, notification, cause)
	reply, err := q.run(ctx, "defer", keys, args...)
	answer, _ := deferredFrom(reply)
	return answer, err
}
