// Package clock knows what time it is on a Redis server.
package clock

import (
	"sync/atomic"
	"time"
)

const (
	clockTrusted = time.Minute            // for which what the server has said is good enough
	clockStepped = 500 * time.Millisecond // by which this machine's two clocks may part in that time: more is a step, or a sleep
)

// Server is the server's clock, as far as this process knows it: a task expires by that, whatever the clock of this machine says.
type Server struct{ known atomic.Pointer[reading] }

// reading is what the server's clock showed at an instant of ours, which has a monotonic clock.
type reading struct{ server, here time.Time }

// Learn sets what the server said, and between which instants. It returns by how much the server's clock is ahead of ours.
func (c *Server) Learn(said, asked, answered time.Time) (ahead time.Duration) {
	here := asked.Add(answered.Sub(asked) / 2)
	c.known.Store(&reading{said, here})
	return said.Sub(here)
}

// Now is the time by the server's clock; by ours before it has been asked.
func (c *Server) Now() time.Time {
	if known := c.known.Load(); known != nil {
		return known.server.Add(time.Since(known.here))
	}
	return time.Now()
}

// Stale reports whether it is time to ask: never asked, not for a minute, or this machine has slept or its clock was set since.
func (c *Server) Stale() bool {
	known := c.known.Load()
	if known == nil {
		return true
	}
	now := time.Now()
	passed := now.Sub(known.here)                           // by the monotonic clock,
	apart := now.Round(0).Sub(known.here.Round(0)) - passed // and by the other
	return passed > clockTrusted || apart.Abs() > clockStepped
}
