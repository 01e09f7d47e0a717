package delayed

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const quick = 20 * time.Millisecond // between two beats

// turned waits until all workers have heard what operators want: their own leases are there again.
func turned(t *testing.T, queue *Queue, workers int) {
	t.Helper()
	var leases []string
	eventually(t, "all are in the register", func() bool {
		leases = queue.store.Client.HKeys(ctx, queue.store.Keys.Workers).Val()
		return len(leases) == workers
	})
	must(t, queue.store.Client.Del(ctx, leases...).Err())
	eventually(t, "all have beaten", func() bool { return queue.store.Client.Exists(ctx, leases...).Val() == int64(workers) })
}

// control sets what operators want.
func control(t *testing.T, queue *Queue, fields ...any) {
	t.Helper()
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Control, fields...).Err())
}

func lengths(t *testing.T, queue *Queue) [2]int64 {
	t.Helper()
	return [2]int64{queue.store.Client.LLen(ctx, queue.Name()).Val(), queue.store.Client.LLen(ctx, queue.store.Keys.Noti).Val()}
}

func TestLimitsAreRead(t *testing.T) {
	for _, c := range []struct {
		control  map[string]string
		any, one bool
		spare    int
	}{
		{nil, false, false, 0},
		{map[string]string{"concurrency": "", "rate": "", "burst": "3"}, false, false, 0},
		{map[string]string{"paused": ""}, true, false, 0},
		{map[string]string{"rate": "0.5"}, true, false, 0},
		{map[string]string{"concurrency": "2", "rate": ""}, true, true, 0},
		{map[string]string{"concurrency": "1000", "rate": ""}, true, true, 62},
		{map[string]string{"concurrency": "1e300", "rate": ""}, true, true, math.MaxInt32 / 16},
		{map[string]string{"concurrency": "-1e300", "rate": ""}, true, true, 0},
		{map[string]string{"concurrency": "nan", "rate": "inf"}, false, false, 0},
		{map[string]string{"concurrency": "many"}, false, false, 0},
	} {
		found := lease.LimitsOf(c.control)
		if found.Any() != c.any || found.Counted() != c.one || c.one && found.Spare() != c.spare {
			t.Errorf("%v: %+v", c.control, found)
		}
	}
	var g lease.Gate
	g.OpensAt = time.Now().Add(time.Hour)
	if g.Apply(lease.Limits{}) || !g.Apply(lease.Limits{Rate: "1"}) || g.Apply(lease.Limits{Rate: "1"}) || !g.Open(time.Now()) {
		t.Error("a change is news, and opens the gate")
	}
	g.Refused(time.Hour)
	if wait := g.OpensIn(time.Now()); g.Open(time.Now()) || wait <= 0 || wait > lease.LongestWait {
		t.Error(wait)
	}
	if !g.Apply(lease.Limits{Rate: "2"}) || !g.Open(time.Now()) || !g.Apply(lease.Limits{Paused: true}) || g.Open(time.Now()) || g.OpensIn(time.Now()) != 0 {
		t.Error("the gate is not as it was learnt")
	}
}

func TestAPausedQueueStaysFull(t *testing.T) {
	queue := newQueue(t)
	ran := make(chan int, 20)
	functions := map[string]any{"main.F": func(i int) { ran <- i }}
	control(t, queue, "paused", "1")
	for i := range 5 {
		enqueue(t, queue, NewGoTask("main.F", i))
	}
	worker := start(t, queue, functions, Beat(quick), Concurrency(2))
	look := func() { // the fetcher has gone round and the heart has beaten
		turned(t, queue, 1)
		turns := worker.rounds.Load()
		eventually(t, "it goes round", func() bool { return worker.rounds.Load() >= turns+2 })
	}
	look()
	if n := lengths(t, queue); n != [2]int64{5, 5} || len(ran) != 0 {
		t.Fatal(n, len(ran))
	}
	must(t, queue.store.Client.HDel(ctx, queue.store.Keys.Control, "paused").Err())
	for i := range 5 {
		<-ran
		_ = i
	}
	control(t, queue, "paused", "1") // while it waits for notifications
	turned(t, queue, 1)
	for i := range 5 {
		enqueue(t, queue, NewGoTask("main.F", i))
	}
	look()
	if n := lengths(t, queue); n != [2]int64{5, 5} || len(ran) != 0 {
		t.Fatal(n, len(ran))
	}
	must(t, queue.store.Client.Del(ctx, queue.store.Keys.Control).Err())
	eventually(t, "all ran", func() bool { return len(ran) == 5 && worker.inFlight() == 0 })
}

func TestAPauseOfOneQueueIsNotOthers(t *testing.T) {
	still := newQueue(t)
	open, err := NewQueue("q"+rdb.Token(), still.store.Client, DequeueTimeout(300*time.Millisecond))
	must(t, err)
	control(t, still, "paused", "1")
	enqueue(t, still, NewGoTask("main.F"), NewGoTask("main.F"))
	enqueue(t, open, NewGoTask("main.F"), NewGoTask("main.F"))
	var ran atomic.Int32
	for _, burst := range []bool{true, false} {
		options := []WorkerOption{NoSignals(), Beat(quick)}
		if burst {
			options = append(options, Burst())
		}
		worker, err := NewWorker([]*Queue{still, open}, options...)
		must(t, err)
		must(t, worker.RegisterAs("main.F", func() { ran.Add(1) }))
		done := background(func() { must(t, worker.Run(ctx)) })
		if !burst { // it waits for the other one's notifications only
			enqueue(t, open, NewGoTask("main.F"), NewGoTask("main.F"))
			eventually(t, "two more ran", func() bool { return ran.Load() == 4 })
			worker.Stop()
		}
		<-done
	}
	if n := lengths(t, still); n != [2]int64{2, 2} || ran.Load() != 4 {
		t.Error(n, ran.Load())
	}
}

func TestWhichNotificationsAreWaitedFor(t *testing.T) {
	first := newQueue(t)
	second, err := NewQueue("q"+rdb.Token(), first.store.Client, DequeueTimeout(100*time.Millisecond))
	must(t, err)
	w, err := NewWorker([]*Queue{first, second}, NoSignals())
	must(t, err)
	now := time.Now()
	for i, c := range []struct {
		limits [2]lease.Limits
		until  time.Duration // when the first one opens
		notis  []string
		wait   time.Duration
	}{
		{[2]lease.Limits{}, 0, []string{first.store.Keys.Noti, second.store.Keys.Noti}, 100 * time.Millisecond},
		{[2]lease.Limits{{Paused: true}}, 0, []string{second.store.Keys.Noti}, 100 * time.Millisecond},
		{[2]lease.Limits{{Rate: "1"}}, 50 * time.Millisecond, []string{second.store.Keys.Noti}, 50 * time.Millisecond},
		{[2]lease.Limits{{Rate: "2"}, {Paused: true}}, time.Millisecond, nil, shortestWait},
		{[2]lease.Limits{{Paused: true}, {Paused: true}}, 0, nil, 100 * time.Millisecond},
		{[2]lease.Limits{}, time.Hour, []string{first.store.Keys.Noti, second.store.Keys.Noti}, 100 * time.Millisecond},
	} {
		for j, b := range w.pools {
			b.Gate.Apply(c.limits[j])
		}
		w.pools[0].Gate.Current()
		w.pools[0].Gate.OpensAt = now.Add(c.until)
		if c.until == time.Hour { // what was refused under limits that are gone
			w.pools[0].Gate.Known = &lease.Limits{}
		}
		var want []byte
		if c.notis != nil {
			want = conn.AppendCommand(nil, append(append([]string{"BLPOP"}, c.notis...), fmt.Sprintf("%.3f", c.wait.Seconds()))...)
		}
		if packed, wait := w.fetcher.pop(now); string(packed) != string(want) || wait != c.wait {
			t.Errorf("%d: %q %s", i, packed, wait)
		}
	}
}

func TestNoMoreAtOnceThanTheLimit(t *testing.T) {
	for _, limit := range []int32{1, 3} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			queue := newQueue(t)
			control(t, queue, "concurrency", limit, "rate", "")
			var running, most, held, ran atomic.Int32
			function := func() {
				now := running.Add(1)
				for known := most.Load(); now > known && !most.CompareAndSwap(known, now); known = most.Load() {
				}
				if n := int32(queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val()); n > limit {
					held.Store(n)
				}
				running.Add(-1)
				ran.Add(1)
			}
			const count = 300
			_, err := queue.EnqueueMany(ctx, many(count, func(int) Task { return NewGoTask("main.F") }))
			must(t, err)
			for range 2 {
				start(t, queue, map[string]any{"main.F": function}, Concurrency(4), Beat(quick))
			}
			eventually(t, "all ran", func() bool { return ran.Load() == count })
			if most.Load() > limit || held.Load() > 0 {
				t.Errorf("%d ran at once, %d were held", most.Load(), held.Load())
			}
		})
	}
}

// Our own endings are known before the next task is asked for, so that no question is in vain.
func TestAWorkerAloneIsNotHeldUpByItsOwnTasks(t *testing.T) {
	queue := queueOn(t, own(t))
	control(t, queue, "concurrency", 1)
	_, err := queue.EnqueueMany(ctx, many(200, func(int) Task { return NewGoTask("main.F") }))
	must(t, err)
	must(t, queue.store.Client.ConfigResetStat(ctx).Err())
	worker := newWorker(t, queue, map[string]any{"main.F": func() {}}, Burst())
	must(t, worker.Run(ctx))
	if taken := calls(t, queue)["hmget"] / 2; worker.succeeded() != 200 || taken > 210 {
		t.Error(worker.succeeded(), taken)
	}
}

// calls are how often each command was carried out, also by scripts.
func calls(t *testing.T, queue *Queue) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, line := range strings.Split(queue.store.Client.Info(ctx, "commandstats").Val(), "\r\n") {
		name, rest, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if found {
			text, _, _ := strings.Cut(rest, ",")
			count, err := strconv.Atoi(text)
			must(t, err)
			counts[strings.ToLower(name)] = count
		}
	}
	return counts
}

func TestARateIsForAllWorkersTogether(t *testing.T) {
	queue := newQueue(t)
	control(t, queue, "rate", "0.001", "burst", "6")
	var ran atomic.Int32
	for range 2 {
		start(t, queue, map[string]any{"main.F": func() { ran.Add(1) }}, Beat(quick), Concurrency(2))
	}
	for range 10 {
		enqueue(t, queue, NewGoTask("main.F"))
	}
	eventually(t, "six ran", func() bool { return ran.Load() == 6 })
	turned(t, queue, 2)
	if n := lengths(t, queue); n != [2]int64{4, 4} || ran.Load() != 6 {
		t.Error(n, ran.Load())
	}
	must(t, queue.store.Client.Del(ctx, queue.store.Keys.Bucket).Err()) // as after a rest,
	control(t, queue, "rate", "0.002")                                  // and what workers know of how long to wait is no longer right
	eventually(t, "all ran", func() bool { return ran.Load() == 10 })
}

func TestABurstWaitsForARate(t *testing.T) {
	queue := newQueue(t)
	control(t, queue, "rate", "40", "burst", "1")
	for range 5 {
		enqueue(t, queue, NewGoTask("main.F"))
	}
	worker := newWorker(t, queue, map[string]any{"main.F": func() {}}, Burst())
	must(t, worker.Run(ctx))
	if worker.succeeded() != 5 {
		t.Error(worker.succeeded())
	}
}

func TestAForeignControlKeyDoesNotStopTheHeart(t *testing.T) {
	queue := newQueue(t)
	must(t, queue.store.Client.Set(ctx, queue.store.Keys.Control, "foreign", 0).Err())
	start(t, queue, map[string]any{"main.F": func() {}}, Beat(quick))
	enqueue(t, queue, NewGoTask("main.F"))
	eventually(t, "the task ran", func() bool { return lengths(t, queue) == [2]int64{} })
	turned(t, queue, 1)
}

// A task that asks for nothing costs what it did: no command of limits, groups, slots or cancellations. (The statistics
// are one script for all, with an HMGET.)
func TestAPlainTaskCostsNoMore(t *testing.T) {
	redisServer := own(t)
	queue := queueOn(t, redisServer)
	_, err := queue.EnqueueMany(ctx, many(2000, func(int) Task { return NewGoTask("main.F") }))
	must(t, err)
	must(t, queue.store.Client.ConfigResetStat(ctx).Err())
	must(t, newWorker(t, queue, map[string]any{"main.F": func() {}}, Burst(), Beat(time.Minute), TTL(time.Hour)).Run(ctx))
	calls := calls(t, queue)
	for name, most := range map[string]int{"lrange": 0, "hmget": 1, "xrange": 0, "hgetall": 1, "pexpire": 0} {
		if calls[name] > most {
			t.Errorf("%s: %d calls", name, calls[name])
		}
	}
	if calls["evalsha"] > 1000 { // it takes many at a time
		t.Error(calls)
	}
}

// Limits, slots and groups hold when Redis comes back, and nothing stays behind.
func TestLimitsOutliveRedis(t *testing.T) {
	redisServer := own(t)
	queue := queueOn(t, redisServer)
	control(t, queue, "concurrency", 2)
	var ran [3]atomic.Int64
	functions := map[string]any{"main.F": func(kind int) { ran[kind].Add(1) }}
	for range 2 {
		start(t, queue, functions, Concurrency(4), Beat(100*time.Millisecond), TTL(time.Second))
	}
	sweeping(t, queue, SweepInterval(200*time.Millisecond), func(s *Sweeper) { s.settling = 500 * time.Millisecond })
	const rounds, each = 3, 100
	for range rounds {
		for range each {
			enqueue(t, queue, NewGoTask("main.F", 0), NewGoTask("main.F", 1).With(Group("a")))
			keyed(t, queue, "k", 2, NewGoTask("main.F", 2))
		}
		redisServer.kill()
		must(t, redisServer.start(true))
	}
	eventually(t, "all ran", func() bool {
		k := queue.store.Keys
		left := queue.store.Client.Exists(ctx, queue.Name(), k.Groups, k.Scheduled, k.Processing).Val()
		return left == 0 && min(ran[0].Load(), ran[1].Load(), ran[2].Load()) >= rounds*each
	})
	eventually(t, "no slot is left", func() bool {
		return queue.store.Client.Exists(ctx, queue.store.Keys.Slots("k"), queue.store.Keys.Noti).Val() == 0
	})
}
