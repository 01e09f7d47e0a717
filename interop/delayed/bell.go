package delayed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	deaf       = time.Second            // between two looks at a schedule whose bell cannot be heard
	bellAnew   = 60 * time.Second       // after which it is asked again: a connection may be gone without a word
	firstWait  = 100 * time.Millisecond // between two attempts of a sweeper to reach Redis again
	overslept  = time.Second            // longer than asked for, that speaks of a process which was stopped, as others may have been
	longestTTL = time.Hour              // of a lease; longer ones are not waited for
)

// site is a Redis server as a sweeper knows it: a connection, and what that tells of the server's health.
type site struct {
	queues   []*Queue
	conn     *conn // nil while there is none
	leave    func() bool
	failures int // attempts since it worked
	caution  *caution
	suspects map[string]*suspects // by queue
	doubts   string               // why living workers may not have been able to beat since the last look
}

// sitesOf groups queues by their servers; on a cluster, where queues move, each is by itself.
func sitesOf(queues []*Queue, settling time.Duration) []*site {
	var sites []*site
	known := map[redis.UniversalClient]*site{}
	for _, queue := range queues {
		_, clustered := queue.store.client.(*redis.ClusterClient)
		there := known[queue.store.client]
		if there == nil || clustered {
			there = &site{caution: newCaution(settling), suspects: map[string]*suspects{}}
			sites = append(sites, there)
			known[queue.store.client] = there
		}
		there.queues = append(there.queues, queue)
		there.suspects[queue.Name()] = newSuspects(there.caution)
	}
	return sites
}

// broke says that the connection has to be opened again.
func (s *site) broke() {
	s.close()
	s.failures++
	s.doubts = "its connection broke"
}

func (s *site) close() {
	if s.conn != nil {
		s.leave()
		s.conn.Close()
		s.conn = nil
	}
	s.caution.heardAt = time.Time{}
}

// names are the queues, for people.
func (s *site) names() string {
	names := make([]string, len(s.queues))
	for i, queue := range s.queues {
		names[i] = queue.Name()
	}
	return strings.Join(names, ", ")
}

// woke is called after a wait that was to end at a time: if that was long ago, workers on this machine may have stood still, too.
func (s *site) woke(planned time.Time) {
	if late := time.Since(planned); late > overslept && s.doubts == "" {
		s.doubts = fmt.Sprintf("this process was stopped for %.1f s", late.Seconds())
	}
}

// pause is how long to wait until leases can be judged that could not be at the last look, if there are such.
func (s *site) pause() (pause time.Duration, doubtful bool) {
	if doubtful = !s.caution.settled(); doubtful {
		pause = s.caution.settledAt - s.caution.present
	}
	for _, these := range s.suspects {
		if ripe, some := these.ripensIn(); some && (!doubtful || ripe < pause) {
			pause, doubtful = ripe, true
		}
	}
	return pause, doubtful
}

// open connects, if there is no connection. It is closed when ctx ends.
func (s *site) open(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	c, err := dial(ctx, s.queues[0].store.client, s.queues[0].Name())
	if err == nil {
		s.caution.heardAt = time.Now()
		s.conn, s.leave = c, context.AfterFunc(ctx, func() { c.Close() })
	}
	return err
}

// listen waits for a server's bells until ctx ends, over a connection that does nothing else. It says so when one has rung, and when
// the connection broke or there is none.
func (s *site) listen(ctx context.Context, rung, broke func()) {
	args := []string{"BLPOP"}
	for _, queue := range s.queues {
		args = append(args, queue.store.Keys.Wake)
	}
	pop := appendCommand(nil, append(args, decimal(int64(bellAnew/time.Second)))...)
	for failures := 0; ctx.Err() == nil; failures++ {
		c, err := dial(ctx, s.queues[0].store.client, s.queues[0].Name())
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
