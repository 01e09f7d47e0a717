package delayed

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	clockTrusted = time.Minute            // for which what the server has said is good enough
	clockStepped = 500 * time.Millisecond // by which this machine's two clocks may part in that time: more is a step, or a sleep
)

// serverClock is the server's clock, as far as this process knows it: a task expires by that, whatever the clock of this machine says.
type serverClock struct{ known atomic.Pointer[reading] }

// reading is what the server's clock showed at an instant of ours, which has a monotonic clock.
type reading struct{ server, here time.Time }

// learn is told what the server said, and between which instants. It returns by how much the server's clock is ahead of ours.
func (c *serverClock) learn(said, asked, answered time.Time) (ahead time.Duration) {
	here := asked.Add(answered.Sub(asked) / 2)
	c.known.Store(&reading{said, here})
	return said.Sub(here)
}

// now is the time by the server's clock; by ours before it has been asked.
func (c *serverClock) now() time.Time {
	if known := c.known.Load(); known != nil {
		return known.server.Add(time.Since(known.here))
	}
	return time.Now()
}

// stale tells whether it is time to ask: never asked, not for a minute, or this machine has slept or its clock was set since.
func (c *serverClock) stale() bool {
	known := c.known.Load()
	if known == nil {
		return true
	}
	now := time.Now()
	passed := now.Sub(known.here)                           // by the monotonic clock,
	apart := now.Round(0).Sub(known.here.Round(0)) - passed // and by the other
	return passed > clockTrusted || apart.Abs() > clockStepped
}

// now is the server's time, in milliseconds since 1970.
func (s *store) now(ctx context.Context) (int64, error) {
	ask := s.caller
	if s.clustered() && ask == (pooled{s.client}) {
		single, err := master(ctx, s.client, s.Keys.Queue) // any server might answer otherwise
		if err != nil {
			return 0, err
		}
		ask = pooled{single}
	}
	reply, err := ask.call(ctx, "TIME")
	if err != nil {
		return 0, err
	}
	said, err := timeIn(reply)
	return said.UnixMilli(), err
}

// timeIn is what a reply to TIME says.
func timeIn(reply any) (time.Time, error) {
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return time.Time{}, fmt.Errorf("delayed: Redis says that it is %v", reply)
	}
	seconds, err := strconv.ParseInt(string(bulk(parts[0])), 10, 64)
	microseconds, err2 := strconv.ParseInt(string(bulk(parts[1])), 10, 64)
	if err != nil || err2 != nil {
		return time.Time{}, fmt.Errorf("delayed: Redis says that it is %q", parts)
	}
	return time.Unix(seconds, microseconds*1000), nil
}
