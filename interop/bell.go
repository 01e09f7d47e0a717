package delayed

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	settle    = 5 * time.Second        // after an outage, in which living workers say that they live, before a lease is held to be dead
	stalled   = 250 * time.Millisecond // for an answer, that speak of an outage though the connection did not break
	deaf      = time.Second            // between two looks at a schedule whose bell cannot be heard
	bellAnew  = 60 * time.Second       // after which it is asked again: a connection may be gone without a word
	firstWait = 100 * time.Millisecond // between two attempts of a sweeper to reach Redis again
)

// site is a Redis server as a sweeper knows it: a connection, and what that tells of the server's health.
type site struct {
	queues    []*Queue
	settling  time.Duration
	conn      *conn // nil while there is none
	leave     func() bool
	failures  int // attempts since it worked
	settledAt time.Time
}

// sitesOf groups queues by their servers; on a cluster, where queues move, each is by itself.
func sitesOf(queues []*Queue, settling time.Duration) []*site {
	var sites []*site
	known := map[redis.UniversalClient]*site{}
	for _, queue := range queues {
		_, clustered := queue.client.(*redis.ClusterClient)
		there := known[queue.client]
		if there == nil || clustered {
			there = &site{settling: settling}
			sites = append(sites, there)
			known[queue.client] = there
		}
		there.queues = append(there.queues, queue)
	}
	return sites
}

// broke says that the connection has to be opened again.
func (s *site) broke() {
	s.close()
	s.failures++
}

func (s *site) close() {
	if s.conn != nil {
		s.leave()
		s.conn.Close()
		s.conn = nil
	}
}

// works says that the server answers, after failures or a pause: leases may have run out because nobody could beat.
func (s *site) works(now time.Time) {
	s.failures = 0
	s.settledAt = now.Add(s.settling)
}

// settled tells whether living workers have had the time to beat.
func (s *site) settled(now time.Time) bool { return !now.Before(s.settledAt) }

// open connects, if there is no connection. It is closed when ctx ends.
func (s *site) open(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	c, err := dial(ctx, s.queues[0].client, s.queues[0].Name())
	if err == nil {
		s.conn, s.leave = c, context.AfterFunc(ctx, func() { c.Close() })
	}
	return err
}

// answered tells whether the error is Redis's own word, so that it was not away.
func answered(err error) bool {
	var refusal redisError
	return errors.As(err, &refusal) && !refusal.misplaced()
}

// listen waits for a server's bells until ctx ends, over a connection that does nothing else. It says so when one has rung, and when
// the connection broke or there is none.
func (s *site) listen(ctx context.Context, rung, broke func()) {
	args := []string{"BLPOP"}
	for _, queue := range s.queues {
		args = append(args, queue.Keys.Wake)
	}
	pop := appendCommand(nil, append(args, decimal(int64(bellAnew/time.Second)))...)
	for failures := 0; ctx.Err() == nil; failures++ {
		c, err := dial(ctx, s.queues[0].client, s.queues[0].Name())
		if err == nil {
			leave := context.AfterFunc(ctx, func() { c.Close() })
			for err == nil {
				var reply any
				if err = c.SetDeadline(time.Now().Add(bellAnew + deadline)); err == nil {
					reply, err = c.block(pop)
				}
				if err == nil {
					failures = 0
				}
				if reply != nil {
					rung()
				}
			}
			leave()
			c.Close()
		}
		broke()
		pause := min(firstWait<<min(failures, 10), deaf)
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
		}
	}
}
