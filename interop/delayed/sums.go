package delayed

import (
	"context"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/tally"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// Sums is what has become of a queue's tasks, by numbers that agree while nothing runs: Enqueued = Completed + Failed + Cancelled + Expired +
// Waiting + Held, and Started = Completed + Retried + Failed + Cancelled + Expired + Recovered.
type Sums struct {
	Enqueued  int64 // those that have ended and those that are there; a dead letter that waits again is one more
	Started   int64 // attempts that have ended
	Retried   int64 // attempts after which the task waits for another
	Recovered int64 // attempts that ended with their worker, likewise
	Failed    int64 // tasks that became dead letters
	Completed int64 // that succeeded
	Cancelled int64 // that a worker met as cancelled
	Expired   int64 // that a worker met too late
	Waiting   int64 // wherever: in the queue, its groups, its schedule, for keys; of more than ten groups or keys, those of ten
	Held      int64 // that workers have
	Dead      int64 // dead letters that are there
}

// sums are the totals of the queue; false if one of its keys cannot be read, as another program uses it.
func (q *Queue) sums(ctx context.Context) (Sums, bool, error) {
	there, known, err := q.store.Totals(ctx)
	if err != nil || !known {
		return Sums{}, false, err
	}
	return sumsOf(there), true, nil
}

func sumsOf(there rdb.Totals) Sums {
	ends := countsIn(there.Counted)
	s := Sums{
		Retried: ends[tally.Retried], Recovered: there.Recovered, Failed: ends[tally.Failed] + ends[tally.Buried] + there.Buried,
		Completed: max(0, ends[tally.Succeeded]-ends[tally.Superseded]), // the end of an attempt whose lease was lost counts for nothing
		Cancelled: ends[tally.Cancelled], Expired: ends[tally.Expired], Waiting: there.Waiting, Held: there.Held, Dead: there.Dead,
	}
	ended := s.Completed + s.Failed + s.Cancelled + s.Expired
	s.Enqueued, s.Started = ended+s.Waiting+s.Held, ended+s.Retried+s.Recovered
	return s
}

// countsIn are the counts in a field of the key with the totals, by outcome; what another program has written says nothing.
func countsIn(entry []byte) map[tally.Outcome]int64 {
	value, _ := wire.NewDecoder(entry).Anything() //nolint:errcheck // there is none
	values, _ := value.([]any)
	counts := map[tally.Outcome]int64{}
	for i := 2; i+1 < len(values); i += 2 {
		counts[tally.Outcome(number(values[i]))] = int64(number(values[i+1]))
	}
	return counts
}
