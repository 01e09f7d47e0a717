package delayed

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/tally"
)

// count counts an attempt that has ended, while its lease still has the task; ran is 0 of one that did not begin.
func (w *Worker) count(l *lease.Lease, job *Job, path string, outcome tally.Outcome, ran time.Duration) {
	counter := w.tallies[l.Pool.Index]
	counter.Ended(path, outcome, ran)
	if ran > 0 && job != nil && job.Attempt == 1 && !job.Enqueued.IsZero() {
		counter.Waited(w.clock.Now().Add(-ran).Sub(job.Enqueued))
	}
}

// outcomeOf is how a task that becomes a dead letter is counted.
func outcomeOf(err error) tally.Outcome {
	switch {
	case reasonOf(err) == Expired:
		return tally.Expired
	case isRefusal(err):
		return tally.Buried
	}
	return tally.Failed
}

// sendCounts adds what has been counted to the statistics in Redis: one command for each queue of which something has. What had no reply is not
// sent again, as it may have arrived: nothing is counted twice.
func (w *Worker) sendCounts(ctx context.Context, over *conn.Conn) error {
	for _, pool := range w.pools {
		counts, some := w.tallies[pool.Index].Take()
		if !some {
			continue
		}
		err := pool.Store.Over(over).Count(ctx, w.clock.Now(), 1-rand.Float64(), counts.Words()) //nolint:gosec // no secret
		switch {
		case err == nil:
		case conn.Answered(err): // Redis is full, or a key has a foreign type
			w.tallies[pool.Index].Restore(counts)
		default:
			return err
		}
	}
	return nil
}
