package delayed

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// checkIn says that we live; what the answers tell of the server's health decides whether leases are judged.
func (s *Sweeper) checkIn(ctx context.Context, there *server) error {
	asked := time.Now()
	if err := s.checkClock(ctx, there); err != nil {
		return err
	}
	for _, queue := range there.queues { // no memory: the sweep matters, the register does not
		if err := s.register(ctx, queue.over(there.conn)); err != nil && !conn.Answered(err) {
			return err
		}
	}
	there.failures = 0
	now := time.Now()
	if there.caution.isStalled(asked, now) && there.doubts == "" {
		there.doubts = fmt.Sprintf("it took %.2f s to answer", now.Sub(asked).Seconds())
	}
	if there.doubts == "" {
		there.caution.trust()
	} else {
		s.postpone(there, s.settling)
	}
	return nil
}

// postpone lets living workers go first.
func (s *Sweeper) postpone(there *server, settling time.Duration) {
	c, why := there.caution, there.doubts
	there.doubts = ""
	c.doubt(settling)
	s.log.Info("after an outage leases are judged later", "queues", there.names(), "outage", why, "after", c.settling)
	if c.postponed%manyTimes == 0 && bits.OnesCount(uint(c.postponed/manyTimes)) == 1 { // the 3rd, 6th, 12th … time
		s.log.Warn("leases could not be judged at once, again and again; so what a killed worker held comes back later; is the network "+
			"unreliable, or this machine too busy?", "queues", there.names(), "times", c.postponed, "outage", why, "after", c.settling)
	}
}

// checkClock is there because leases run out by the server's clock: if it was set forward, those of living workers are gone.
func (s *Sweeper) checkClock(ctx context.Context, there *server) error {
	asked := time.Now()
	clock, err := there.queues[0].over(there.conn).store.Now(ctx)
	if err != nil {
		if conn.Answered(err) {
			s.log.Warn("cannot look at the server's clock", "queues", there.names(), "error", err)
			return nil
		}
		return err
	}
	switch step := there.caution.step(asked, time.Now(), clock); {
	case step > 0:
		s.log.Warn("the clock of the Redis server was set forward, so leases of living workers have run out", "queues", there.names(),
			"by", step)
		if there.caution.postponed < manyTimes { // a clock that steps again and again acquits nobody for ever
			for _, these := range there.suspects {
				these.acquit()
			}
		}
		beat, err := longestBeat(ctx, there)
		there.doubts = "the server's clock was set forward"
		s.postpone(there, max(s.settling, beat))
		return err
	case step < 0:
		s.log.Warn("the clock of the Redis server was set back: what workers held that died before comes back later by as much",
			"queues", there.names(), "by", -step)
	}
	return nil
}

// recheck is for leases that seem to be dead: is there a reason for doubt by now?
func (s *Sweeper) recheck(ctx context.Context, there *server) error {
	err := s.checkClock(ctx, there)
	if err == nil {
		there.caution.heard(time.Now())
	}
	return err
}

// longestBeat is the time in which each living worker beats: it does so at least twice while its leases live.
func longestBeat(ctx context.Context, there *server) (longest time.Duration, err error) {
	for _, queue := range there.queues {
		reply, err := there.conn.Call(ctx, "HVALS", queue.store.Keys.Workers)
		if err != nil && !conn.Answered(err) {
			return longest, err
		}
		values, _ := reply.([]any)
		for _, value := range values {
			if ttl := ttlIn(rdb.Bulk(value)); ttl > 0 {
				longest = max(longest, ttl/2+time.Second)
			}
		}
	}
	return longest, nil
}

// ttlIn is how long the leases of a process live that says this of itself; 0 if it does not say, or no sense.
func ttlIn(about []byte) time.Duration {
	if end, err := wire.Skip(about, 0); err != nil || end != len(about) {
		return 0
	}
	value, err := wire.NewDecoder(about).Anything()
	fields, _ := value.(map[string]any)
	if ttl := secondsFrom(fields["ttl"]); err == nil && ttl <= longestTTL {
		return max(ttl, 0)
	}
	return 0
}
