package lease

import (
	"math"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	lookAgain   = time.Second     // after which a queue is asked again that was paused when we did not know it yet
	LongestWait = 5 * time.Second // after which a queue is asked again in any case
	freePlaces  = 16              // of so many free places one may wait in hand: FREE of take_limited
)

// Limits are what operators want of a queue, as it stands in Q_control. take_limited reads the numbers itself.
type Limits struct {
	Paused                   bool
	concurrency, Rate, burst string
}

func LimitsOf(control map[string]string) Limits {
	_, paused := control["paused"]
	return Limits{paused, control["concurrency"], control["rate"], control["burst"]}
}

// Counted reports whether only so many tasks may be held at once.
func (l *Limits) Counted() bool { return l != nil && finite(l.concurrency) }

// Spare is how many tasks may wait in hand that others could run: the part of the places that take_limited has for that.
func (l *Limits) Spare() int {
	most, _ := strconv.ParseFloat(l.concurrency, 64) //nolint:errcheck // what is no number is no limit: see Counted
	return int(min(max(most, 0), math.MaxInt32)) / freePlaces
}

// Any reports whether there is any limit. What makes no sense is no limit.
func (l Limits) Any() bool { return l.Paused || finite(l.concurrency) || finite(l.Rate) }

func finite(text string) bool {
	number, err := strconv.ParseFloat(text, 64)
	return err == nil && !math.IsNaN(number) && !math.IsInf(number, 0)
}

// Gate is whether a worker may take from one of its queues.
type Gate struct {
	limits  atomic.Pointer[Limits] // what the heartbeat has read last; nil for none
	Grouped atomic.Bool            // groups may have tasks waiting

	// The fetcher's alone.
	Known   *Limits   // those of its last look
	OpensAt time.Time // from when on it is worth asking
	Ended   int64     // how many of the worker's tasks had ended when it asked last
}

// Apply sets what operators want now. It reports whether that is something new.
func (g *Gate) Apply(found Limits) bool {
	known := g.limits.Load()
	if found.Any() && known != nil && *known == found || !found.Any() && known == nil {
		return false
	}
	if found.Any() {
		g.limits.Store(&found)
	} else {
		g.limits.Store(nil)
	}
	return true
}

// Current is what operators want. Where that has changed, it is worth asking again.
func (g *Gate) Current() *Limits {
	if found := g.limits.Load(); found != g.Known {
		g.Known, g.OpensAt = found, time.Time{}
	}
	return g.Known
}

// Open reports whether it is worth asking.
func (g *Gate) Open(now time.Time) bool {
	l := g.Current()
	return l == nil || !l.Paused && !now.Before(g.OpensAt)
}

// OpensIn is how long it takes until it is worth asking; 0 if it is now, or if time does not help.
func (g *Gate) OpensIn(now time.Time) time.Duration {
	if l := g.Current(); l == nil || l.Paused {
		return 0
	}
	return max(g.OpensAt.Sub(now), 0)
}

// Refused applies what take_limited said: after how long to ask again, or a time below 0 if the queue is paused.
func (g *Gate) Refused(pause time.Duration) {
	switch {
	case pause == 0:
		g.OpensAt = time.Time{}
	case pause < 0:
		g.OpensAt = time.Now().Add(lookAgain)
	default:
		g.OpensAt = time.Now().Add(min(pause, LongestWait))
	}
}
