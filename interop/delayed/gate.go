package delayed

import (
	"math"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	lookAgain   = time.Second     // after which a queue is asked again that was paused when we did not know it yet
	longestWait = 5 * time.Second // after which a queue is asked again in any case
)

// limits are what operators want of a queue, as it stands in Q_control. take_limited reads the numbers itself.
type limits struct {
	paused                   bool
	concurrency, rate, burst string
}

func limitsOf(control map[string]string) limits {
	_, paused := control["paused"]
	return limits{paused, control["concurrency"], control["rate"], control["burst"]}
}

// counted tells whether only so many tasks may be held at once.
func (l *limits) counted() bool { return l != nil && finite(l.concurrency) }

// any tells whether there is anything to heed. What makes no sense is no limit.
func (l limits) any() bool { return l.paused || finite(l.concurrency) || finite(l.rate) }

func finite(text string) bool {
	number, err := strconv.ParseFloat(text, 64)
	return err == nil && !math.IsNaN(number) && !math.IsInf(number, 0)
}

// gate is whether a worker may take from one of its queues.
type gate struct {
	limits  atomic.Pointer[limits] // what the heartbeat has heard last; nil for none
	grouped atomic.Bool            // groups may have tasks waiting

	// The taker's alone.
	heeded  *limits   // those of its last look
	opensAt time.Time // from when on it is worth asking
	ended   int64     // how many of the worker's tasks had ended when it asked last
}

// learn is told what operators want now. It tells whether that is something new.
func (g *gate) learn(found limits) bool {
	known := g.limits.Load()
	if found.any() && known != nil && *known == found || !found.any() && known == nil {
		return false
	}
	if found.any() {
		g.limits.Store(&found)
	} else {
		g.limits.Store(nil)
	}
	return true
}

// heed is what operators want. Where that has changed, it is worth asking again.
func (g *gate) heed() *limits {
	if found := g.limits.Load(); found != g.heeded {
		g.heeded, g.opensAt = found, time.Time{}
	}
	return g.heeded
}

// open tells whether it is worth asking.
func (g *gate) open(now time.Time) bool {
	l := g.heed()
	return l == nil || !l.paused && !now.Before(g.opensAt)
}

// opensIn is how long it takes until it is worth asking; 0 if it is now, or if time does not help.
func (g *gate) opensIn(now time.Time) time.Duration {
	if l := g.heed(); l == nil || l.paused {
		return 0
	}
	return max(g.opensAt.Sub(now), 0)
}

// refused is told what take_limited said: after how long to ask again, or a time below 0 if the queue is paused.
func (g *gate) refused(pause time.Duration) {
	switch {
	case pause == 0:
		g.opensAt = time.Time{}
	case pause < 0:
		g.opensAt = time.Now().Add(lookAgain)
	default:
		g.opensAt = time.Now().Add(min(pause, longestWait))
	}
}
