package delayed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

const (
	pollPause  = time.Second            // between two looks at a schedule while nothing says when it changes
	wakeAgain  = 60 * time.Second       // after which it is asked again: a connection may be gone without a word
	firstWait  = 100 * time.Millisecond // between two attempts of a sweeper to reach Redis again
	overslept  = time.Second            // longer than asked for, that speaks of a process which was stopped, as others may have been
	longestTTL = time.Hour              // of a lease; longer ones are not waited for
)

// server is a Redis server as a sweeper knows it: a connection, and what that tells of the server's health.
type server struct {
	queues   []*Queue
	conn     *conn.Conn // nil while there is none
	leave    func() bool
	failures int // attempts since it worked
	caution  *caution
	suspects map[string]*suspects // by queue
	doubts   string               // why living workers may not have been able to beat since the last look
}

// serversOf groups queues by their servers; on a cluster, where queues move, each is by itself.
func serversOf(queues []*Queue, settling time.Duration) []*server {
	var sites []*server
	known := map[redis.UniversalClient]*server{}
	for _, queue := range queues {
		_, clustered := queue.store.Client.(*redis.ClusterClient)
		there := known[queue.store.Client]
		if there == nil || clustered {
			there = &server{caution: newCaution(settling), suspects: map[string]*suspects{}}
			sites = append(sites, there)
			known[queue.store.Client] = there
		}
		there.queues = append(there.queues, queue)
		there.suspects[queue.Name()] = newSuspects(there.caution)
	}
	return sites
}

// broke says that the connection has to be opened again.
func (s *server) broke() {
	s.close()
	s.failures++
	s.doubts = "its connection broke"
}

func (s *server) close() {
	if s.conn != nil {
		s.leave()
		s.conn.Close()
		s.conn = nil
	}
	s.caution.heardAt = time.Time{}
}

// names are the queues, for people.
func (s *server) names() string {
	names := make([]string, len(s.queues))
	for i, queue := range s.queues {
		names[i] = queue.Name()
	}
	return strings.Join(names, ", ")
}

// checkOversleep is called after a wait that was to end at a time: if that was long ago, workers on this machine may have stood still, too.
func (s *server) checkOversleep(planned time.Time) {
	if late := time.Since(planned); late > overslept && s.doubts == "" {
		s.doubts = fmt.Sprintf("this process was stopped for %.1f s", late.Seconds())
	}
}

// pause is how long to wait until leases can be judged that could not be at the last look, if there are such.
func (s *server) pause() (pause time.Duration, doubtful bool) {
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
func (s *server) open(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	c, err := conn.Dial(ctx, s.queues[0].store.Client, s.queues[0].Name())
	if err == nil {
		s.caution.heardAt = time.Now()
		s.conn, s.leave = c, context.AfterFunc(ctx, func() { c.Close() })
	}
	return err
}

// listen waits for the wake-up lists (Q_wake) of a server until ctx ends, over a connection that does nothing else. It calls woken
// when something came, and broke when the connection broke or there is none.
func (s *server) listen(ctx context.Context, woken, broke func()) {
	args := []string{"BLPOP"}
	for _, queue := range s.queues {
		args = append(args, queue.store.Keys.Wake)
	}
	pop := conn.AppendCommand(nil, append(args, rdb.Decimal(int64(wakeAgain/time.Second)))...)
	for failures := 0; ctx.Err() == nil; failures++ {
		c, err := conn.Dial(ctx, s.queues[0].store.Client, s.queues[0].Name())
		if err == nil {
			leave := context.AfterFunc(ctx, func() { c.Close() })
			for err == nil {
				var reply any
				if err = c.SetDeadline(time.Now().Add(wakeAgain + conn.Deadline)); err == nil {
					reply, err = c.Block(pop)
				}
				if err == nil {
					failures = 0
				}
				if reply != nil {
					woken()
				}
			}
			leave()
			c.Close()
		}
		broke()
		pause := min(firstWait<<min(failures, 10), pollPause)
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
		}
	}
}
