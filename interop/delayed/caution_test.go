package delayed

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/redis/go-redis/v9"
)

var began = time.Now()

func atSecond(seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

func TestASlowAnswerIsAnOutageUnlessTheLinkIsAlwaysSlow(t *testing.T) {
	looks := func(c *caution, took float64, count int) (stalled []bool) {
		for range count {
			c.heardAt = began
			stalled = append(stalled, c.isStalled(began, atSecond(took)))
		}
		return stalled
	}
	c := newCaution(settle)
	if got := looks(c, 0.01, 5); slices.Contains(got, true) {
		t.Error(got)
	}
	if got := append(looks(c, 0.3, 1), looks(c, 2, 5)...); !slices.Equal(got, []bool{true, true, true, true, false, false}) {
		t.Error("it has become slow", got)
	}
	c = newCaution(settle)
	if got := append(looks(c, 2, 4), looks(c, 9, 1)...); !slices.Equal(got, []bool{true, false, false, false, true}) {
		t.Error("it is always slow", got)
	}
}

func TestWhatIsDeadAtTwoLooksIsDeadWhateverTheLinkIsLike(t *testing.T) {
	c := newCaution(settle)
	these := newSuspects(c)
	var found []int
	for second := range 8 { // the connection breaks each second
		c.heardAt = atSecond(10 * float64(second))
		c.doubt(settle)
		leases := []string{"a"}
		if second == 0 {
			leases = []string{"a", "b"}
		}
		found = append(found, len(these.dead("held", leases)))
		these.looked("held")
		c.heard(atSecond(10*float64(second) + 1))
		c.heardAt = time.Time{}
		c.heard(atSecond(10*float64(second) + 9)) // over no connection
	}
	if !slices.Equal(found, []int{0, 0, 0, 0, 0, 1, 1, 1}) || c.settled() || c.postponed != 8 || len(these.since) != 1 {
		t.Error(found, c, these.since)
	}
	these.acquit()
	if _, some := these.ripensIn(); some {
		t.Error("nobody is suspect")
	}
}

func TestAStepOfTheClockIsSeenWhateverTheRoundTrip(t *testing.T) {
	for _, took := range []float64{0.001, 2} {
		c := newCaution(settle)
		var steps []int
		for i, clock := range []int64{1_000_000, 1_010_000, 1_020_000 + int64(took*1000), 4_630_000, 4_640_000, 1_050_000, 1_060_000} {
			step := c.step(atSecond(10*float64(i)), atSecond(10*float64(i)+took), clock)
			steps = append(steps, int((step + 5*time.Second).Round(100*time.Second).Seconds()))
		}
		if !slices.Equal(steps, []int{0, 0, 0, 3600, 0, -3600, 0}) {
			t.Error(took, steps)
		}
	}
	c := newCaution(settle)
	if c.step(began, began, 1) != 0 || c.step(atSecond(36000), atSecond(36000), 36_018_001) != 0 {
		t.Error("a clock that is slewed makes no step")
	}
}

func TestThoseThatBeatSeldomHaveMoreTime(t *testing.T) {
	for about, want := range map[any]time.Duration{
		10.0: 10 * time.Second, int64(60): time.Minute, true: 0, "60": 0, -5.0: 0, 1e9: 0, nil: 0,
	} {
		packed, err := wire.Encode(map[string]any{"ttl": about}, false)
		must(t, err)
		if got := ttlIn(packed); got != want {
			t.Error(about, got)
		}
	}
	for _, about := range []string{"", "\xc1", "x", "\x80\x80", "\x81\xa3ttl"} {
		if got := ttlIn([]byte(about)); got != 0 {
			t.Errorf("%q: %s", about, got)
		}
	}
	c := newCaution(settle)
	c.heardAt = began
	c.doubt(31 * time.Second)
	c.heard(atSecond(10))
	c.doubt(settle) // another outage shortens nothing
	c.heard(atSecond(40))
	early := c.settled()
	c.heard(atSecond(41))
	if c.trust(); early || !c.settled() || c.postponed != 0 || c.settling != settle {
		t.Error(c)
	}
}

// lagging is a connection over which each answer takes a while.
type lagging struct {
	net.Conn
	lag *time.Duration
}

func (l lagging) Write(data []byte) (int, error) {
	time.Sleep(*l.lag)
	return l.Conn.Write(data)
}

// looking is a sweeper that sweeps when it is told, over a link with a lag.
func looking(t *testing.T, settling time.Duration) (queue *Queue, there *server, look func(), lag *time.Duration, log *bytes.Buffer) {
	t.Helper()
	lag, log = new(time.Duration), &bytes.Buffer{}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: shared.socket(), Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return lagging{c, lag}, err
	}})
	t.Cleanup(func() { client.Close() })
	queue, err := NewQueue("q"+rdb.Token(), client)
	must(t, err)
	s, err := NewSweeper([]*Queue{queue}, SweeperNoSignals(), SweeperLogger(slog.New(slog.NewTextHandler(log, nil))),
		func(s *Sweeper) { s.settling = settling })
	must(t, err)
	s.servers = serversOf(s.queues, settling)
	there = s.servers[0]
	t.Cleanup(there.close)
	return newQueueNamed(t, queue.Name()), there, func() { s.sweepServer(ctx, there) }, lag, log
}

func newQueueNamed(t *testing.T, name string) *Queue {
	t.Helper()
	queue, err := NewQueue(name, connectTo(t, shared))
	must(t, err)
	return queue
}

func holdDead(t *testing.T, queue *Queue) {
	t.Helper()
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Processing, queue.store.Keys.Lease("dead", 0), "\x91\xa1f").Err())
}

func held(queue *Queue) int64 { return queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() }

func TestAfterASlowAnswerTheLivingGoFirst(t *testing.T) {
	queue, there, look, lag, log := looking(t, time.Hour)
	for range 3 {
		look()
	}
	holdDead(t, queue)
	*lag = 300 * time.Millisecond
	look()
	if held(queue) != 1 || !strings.Contains(log.String(), "leases are judged later") {
		t.Error(held(queue), log)
	}
	*lag = 0
	there.caution.present += time.Hour
	look()
	if held(queue) != 0 {
		t.Error(log)
	}
}

func TestOutagesAtEachLookKeepNothingForEver(t *testing.T) {
	queue, there, look, _, log := looking(t, settle)
	holdDead(t, queue)
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Workers, queue.store.Keys.Own("dead"), "\x80").Err())
	looks := 0
	for ; held(queue) > 0 || queue.store.Client.HExists(ctx, queue.store.Keys.Workers, queue.store.Keys.Own("dead")).Val(); looks++ {
		if looks > 20 {
			t.Fatal("it is never judged", log)
		}
		there.broke()
		look()
		there.caution.present += time.Second
	}
	if looks < 5 || !strings.Contains(log.String(), "level=WARN msg=\"leases could not be judged") {
		t.Error(looks, log)
	}
}

func TestAProcessThatWasStoppedLetsOthersGoFirst(t *testing.T) {
	queue, there, look, _, log := looking(t, time.Hour)
	look()
	there.checkOversleep(time.Now().Add(-3 * time.Second))
	holdDead(t, queue)
	if look(); held(queue) != 1 || !strings.Contains(log.String(), "was stopped for 3") {
		t.Error(log)
	}
}

func TestStepsFailOneByOne(t *testing.T) {
	for _, wrong := range []string{"held", "register", "dead letters", "notifications"} {
		t.Run(wrong, func(t *testing.T) {
			queue, _, look, _, log := looking(t, settle)
			k := queue.store.Keys
			holdDead(t, queue)
			must(t, queue.store.Client.HSet(ctx, k.Workers, k.Own("dead"), "\x80").Err())
			must(t, queue.store.Client.ZAdd(ctx, k.Scheduled, redis.Z{Score: 1, Member: "0123456789abcdef\x91\xa1f"}).Err())
			usurp(t, queue, map[string]string{"held": k.Processing, "register": k.Workers, "dead letters": k.Dead, "notifications": k.Noti}[wrong])
			look()
			if gone := wrong == "register" || !queue.store.Client.HExists(ctx, k.Workers, k.Own("dead")).Val(); !gone {
				t.Error("the register is not pruned", log)
			}
			if wrong == "register" && held(queue) != 0 || !strings.Contains(log.String(), "a sweep could not do all") {
				t.Error(log)
			}
		})
	}
}

func TestAPanicOverForeignDataIsAnError(t *testing.T) {
	err := guarded(func() error { panic("what another program wrote") })
	var defect *broken
	if !errors.As(err, &defect) || !strings.Contains(err.Error(), "what another program wrote") || !strings.Contains(err.Error(), "caution_test.go") {
		t.Error(err)
	}
	if err := guarded(func() error { return ErrConfiguration }); !errors.Is(err, ErrConfiguration) {
		t.Error(err)
	}
}

// While it catches up with half a century of seconds it sweeps, and obeys.
func TestAStopIsHeardWhileASweeperCatchesUp(t *testing.T) {
	queue := newQueue(t)
	schedule(t, queue, "a", Cron{Expression: "* * * * * *", CatchUp: AllMissed})
	makeDue(t, queue, "a", 1)
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals(), SweepInterval(100*time.Millisecond), SweeperLogger(slog.New(slog.DiscardHandler)))
	must(t, err)
	done := background(func() { must(t, sweeper.Run(ctx)) })
	eventually(t, "it catches up", func() bool { return length(t, queue) > 1000 })
	holdDead(t, queue)
	eventually(t, "it sweeps", func() bool { return held(queue) == 0 })
	sweeper.Stop()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it is deaf")
	}
	must(t, queue.store.Client.Unlink(ctx, queue.Name(), queue.store.Keys.Noti).Err())
}
