package delayed

import (
	"strconv"
	"sync/atomic"
	"time"
)

// serverClock is the server's clock, as far as this process knows it: a task expires by that, whatever the clock of this machine says.
type serverClock struct{ known atomic.Pointer[reading] }

// reading is what the server's clock showed at an instant of ours, which has a monotonic clock.
type reading struct{ server, here time.Time }

// learn is told the reply to TIME, and between which instants it was given. It returns by how much the server's clock is ahead of ours.
func (c *serverClock) learn(reply any, asked, answered time.Time) (ahead time.Duration, ok bool) {
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return 0, false
	}
	seconds, err := strconv.ParseInt(string(bulk(parts[0])), 10, 64)
	if err != nil {
		return 0, false
	}
	microseconds, err := strconv.ParseInt(string(bulk(parts[1])), 10, 64)
	if err != nil {
		return 0, false
	}
	server := time.Unix(seconds, microseconds*1000)
	here := asked.Add(answered.Sub(asked) / 2)
	c.known.Store(&reading{server, here})
	return server.Sub(here), true
}

// now is the time by the server's clock; by ours before it has been asked.
func (c *serverClock) now() time.Time {
	if known := c.known.Load(); known != nil {
		return known.server.Add(time.Since(known.here))
	}
	return time.Now()
}
