package lease

import "time"

const (
	MostAhead      = 64  // tasks taken ahead; with more, Redis spends longer on looking for them in Q_processing,
	FarAhead       = 512 // which is worth it where a round trip takes longer than that:
	far            = 500 * time.Microsecond
	PrefetchBudget = 5 * time.Millisecond // of work in the buffer: what a task may have to wait behind others that its worker holds
	prefetchBytes  = 1 << 20              // in one reply
)

// Prefetch learns from the tasks themselves how many to take ahead: as many as a few milliseconds' work. It begins with none.
type Prefetch struct {
	Ahead int           // how many tasks to hold beyond those that run
	Trip  time.Duration // a round trip to Redis
}

// Adapt learns that count tasks with size bytes together took busy time, over slots goroutines.
func (p *Prefetch) Adapt(count, size int64, busy time.Duration, slots int) {
	if count == 0 {
		return
	}
	most := int64(MostAhead)
	if p.Trip >= far {
		most = FarAhead
	}
	affordable := most
	if busy > 0 {
		affordable = int64(PrefetchBudget) * int64(slots) * count / int64(busy)
	}
	portable := prefetchBytes * count / max(size, 1)
	p.Ahead = int(min(2*int64(p.Ahead)+1, most, affordable, portable))
}

// Reset is called when tasks waited behind slow ones: it begins anew.
func (p *Prefetch) Reset() { p.Ahead = 0 }
