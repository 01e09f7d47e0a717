package delayed

import "time"

const (
	paceMost   = 64                   // tasks taken ahead; with more, Redis spends longer on looking for them in Q_processing
	paceBudget = 5 * time.Millisecond // of work in hand: what a task may have to wait behind others that its worker holds
	paceBytes  = 1 << 20              // in one reply
)

// pace learns from the tasks themselves how many to take ahead: as many as a few milliseconds' work. It begins with none.
type pace struct {
	ahead int // how many tasks to hold beyond those that run
}

// learn is told that count tasks with size bytes together took busy time, over slots goroutines.
func (p *pace) learn(count, size int64, busy time.Duration, slots int) {
	if count == 0 {
		return
	}
	affordable := int64(paceMost)
	if busy > 0 {
		affordable = int64(paceBudget) * int64(slots) * count / int64(busy)
	}
	portable := paceBytes * count / max(size, 1)
	p.ahead = int(min(2*int64(p.ahead)+1, paceMost, affordable, portable))
}

// stumble is called when tasks waited behind slow ones: it begins anew.
func (p *pace) stumble() { p.ahead = 0 }
