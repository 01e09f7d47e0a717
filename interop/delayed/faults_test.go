package delayed

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

// A worker whose connections break again and again loses nothing, and repeats nothing, as the process lives.
func TestBrokenConnectionsRepeatNothing(t *testing.T) {
	for _, concurrency := range []int{1, 4} {
		t.Run(strconv.Itoa(concurrency), func(t *testing.T) {
			queue := queueOn(t, own(t))
			count := 20000
			if testing.Short() {
				count = 4000
			}
			_, err := queue.EnqueueMany(ctx, many(count, func(i int) Task {
				if i%1000 == 999 {
					return NewGoTask("main.Fail", i)
				}
				return NewGoTask("main.F", i)
			}))
			must(t, err)
			ran := make([]atomic.Int32, count)
			function := func(i int) error {
				ran[i].Add(1)
				if i%1000 == 999 {
					return strconv.ErrRange
				}
				return nil
			}
			worker := start(t, queue, map[string]any{"main.F": function, "main.Fail": function}, Concurrency(concurrency))
			for worker.finished.Load() < int64(count) {
				must(t, queue.store.Client.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
				before := worker.finished.Load()
				pause := time.Duration(rand.N(15)) * time.Millisecond
				eventually(t, "it goes on", func() bool { return worker.finished.Load() > before || worker.finished.Load() >= int64(count) })
				time.Sleep(pause) // some work between two faults
			}
			eventually(t, "all are released", func() bool { return queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() == 0 })
			for i := range ran {
				if n := ran[i].Load(); n != 1 {
					t.Errorf("task %d ran %d times", i, n)
				}
			}
			if n := len(deadLetters(t, queue)); n != count/1000 || worker.superseded.Load() != 0 {
				t.Errorf("%d dead letters, %d superseded", n, worker.superseded.Load())
			}
		})
	}
}

func TestRedisHangs(t *testing.T) {
	redisServer := own(t)
	queue := queueOn(t, redisServer)
	var ran atomic.Int32
	worker := start(t, queue, map[string]any{"main.F": func(int) { ran.Add(1) }}, Concurrency(4), Beat(100*time.Millisecond))
	_, err := queue.EnqueueMany(ctx, many(20000, func(i int) Task { return NewGoTask("main.F", i) }))
	must(t, err)
	must(t, redisServer.process.Process.Signal(syscall.SIGSTOP))
	eventually(t, "the worker gives its connections up", worker.broken.Load)
	must(t, redisServer.process.Process.Signal(syscall.SIGCONT))
	eventually(t, "all ran", func() bool { return worker.finished.Load() == 20000 && worker.inFlight() == 0 })
	eventually(t, "all are released", func() bool { return queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() == 0 })
	if worker.superseded.Load() != 0 || ran.Load() != 20000 {
		t.Errorf("%d superseded, %d ran", worker.superseded.Load(), ran.Load())
	}
}

// What Redis refuses to do at the moment, also behind the worker's back, is done when it lets us.
func TestRedisRefusesToWrite(t *testing.T) {
	queue := queueOn(t, own(t))
	const count = 20000
	_, err := queue.EnqueueMany(ctx, many(count, func(i int) Task { return NewGoTask("main.F", i) }))
	must(t, err)
	ran := make([]atomic.Int32, count)
	worker := start(t, queue, map[string]any{"main.F": func(i int) { ran[i].Add(1) }}, Concurrency(2))
	for worker.finished.Load() < count {
		must(t, queue.store.Client.ConfigSet(ctx, "min-replicas-to-write", "1").Err())
		eventually(t, "it is refused", func() bool { return worker.broken.Load() || worker.finished.Load() >= count })
		must(t, queue.store.Client.ConfigSet(ctx, "min-replicas-to-write", "0").Err())
		before := worker.finished.Load()
		eventually(t, "it goes on", func() bool { return worker.finished.Load() > before || worker.finished.Load() >= count })
	}
	eventually(t, "all are released", func() bool { return queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() == 0 })
	for i := range ran {
		if n := ran[i].Load(); n != 1 {
			t.Errorf("task %d ran %d times", i, n)
		}
	}
	if n := worker.superseded.Load(); n != 0 {
		t.Errorf("%d superseded", n)
	}
}

func TestSweepersSideBySide(t *testing.T) {
	queue := newQueue(t)
	const count = 500
	_, err := queue.EnqueueMany(ctx, many(count, func(i int) Task { return NewGoTask("main.F", i) }))
	must(t, err)
	var leases, dead []string
	for i := range count {
		leases = append(leases, queue.store.Keys.Lease("x", i))
	}
	for chunk := range slices.Chunk(leases, 250) {
		_, err := queue.store.Take(ctx, chunk, rdb.TakeOptions{TTL: time.Minute, Waiting: true})
		must(t, err)
		dead = append(dead, chunk[:200]...)
	}
	must(t, queue.store.Client.Del(ctx, dead...).Err())
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Workers, queue.store.Keys.Own("gone"), "x").Err())
	must(t, queue.store.Client.RPush(ctx, queue.store.Keys.Noti, make([]any, 9000)...).Err()) // surplus
	sweepers := make([]*Sweeper, 4)
	done := make(chan error)
	for i := range sweepers {
		sweepers[i], err = NewSweeper([]*Queue{queue}, SweeperNoSignals(), SweepInterval(20*time.Millisecond), SweeperLogger(slog.New(slog.DiscardHandler)))
		must(t, err)
		go func() { done <- sweepers[i].Run(ctx) }()
	}
	eventually(t, "all is in order", func() bool {
		waiting, err := queue.Len(ctx)
		must(t, err)
		return waiting == 400 && queue.store.Client.LLen(ctx, queue.store.Keys.Noti).Val() == 400 &&
			!queue.store.Client.HExists(ctx, queue.store.Keys.Workers, queue.store.Keys.Own("gone")).Val()
	})
	recovered := 0
	for _, sweeper := range sweepers {
		sweeper.Stop()
		must(t, <-done)
	}
	for _, sweeper := range sweepers {
		recovered += sweeper.recovered
	}
	if recovered != 400 || queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() != 100 || queue.store.Client.HLen(ctx, queue.store.Keys.Workers).Val() != 0 {
		t.Errorf("%d recovered", recovered)
	}
}

// freePort is a port for a server that cannot use a Unix socket.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func serverWith(t *testing.T, port int, args ...string) {
	t.Helper()
	args = append([]string{"--port", strconv.Itoa(port), "--dir", t.TempDir(), "--save", "", "--appendonly", "no"}, args...)
	process := exec.Command(shared.binary, args...)
	must(t, process.Start())
	t.Cleanup(func() { process.Process.Kill(); process.Wait() }) //nolint:errcheck // it may have ended
	eventually(t, "the server listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func work(t *testing.T, name string, client redis.UniversalClient) {
	t.Helper()
	defer client.Close()
	queue, err := NewQueue(name, client, DequeueTimeout(200*time.Millisecond))
	must(t, err)
	var ran atomic.Int32
	worker := start(t, queue, map[string]any{"main.F": func() { ran.Add(1) }}, UnreadyFor(0))
	for range 50 {
		enqueue(t, queue, NewGoTask("main.F"))
	}
	enqueue(t, queue, NewGoTask("main.Missing"))
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
	must(t, err)
	must(t, sweeper.Sweep(ctx))
	eventually(t, "all ran", func() bool { return ran.Load() == 50 && len(deadLetters(t, queue)) == 1 })
	worker.Stop()
	eventually(t, "it has left", func() bool { return client.HLen(ctx, queue.store.Keys.Processing).Val() == 0 })
}

// clusterOfOne is a Redis Cluster of one server.
func clusterOfOne(t *testing.T) redis.UniversalClient {
	t.Helper()
	port := freePort(t)
	for port > 55000 { // the cluster's bus has a port 10,000 above (Redis 6.2 cannot be told another)
		port = freePort(t) - 10000
	}
	serverWith(t, port, "--cluster-enabled", "yes")
	address := "127.0.0.1:" + strconv.Itoa(port)
	single := redis.NewClient(&redis.Options{Addr: address})
	defer single.Close()
	must(t, single.ClusterAddSlotsRange(ctx, 0, 16383).Err())
	eventually(t, "the cluster is up", func() bool { return strings.Contains(single.ClusterInfo(ctx).Val(), "cluster_state:ok") })
	client, err := Connect("redis+cluster://" + address)
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func TestCluster(t *testing.T) {
	client := clusterOfOne(t)
	durable := onPrimary(t, client, "{d}", Durability("replicas:1"), DurabilityTimeout(time.Millisecond))
	if err := durable.Enqueue(ctx, NewGoTask("main.F")); !errors.Is(err, ErrNotDurable) || length(t, durable) != 1 {
		t.Error(err)
	}
	schedule(t, durable, "a", Cron{Expression: newYear})
	must(t, durable.RunSchedule(ctx, "a"))
	makeDue(t, durable, "a", time.Now().UnixMilli())
	sweeping(t, durable)
	eventually(t, "it fires", func() bool { n, _ := durable.Len(ctx); return n == 3 })
	work(t, "{q}", client)
}

func TestSentinelWithPasswordAndDatabase(t *testing.T) {
	port, sentinel := freePort(t), freePort(t)
	serverWith(t, port, "--requirepass", "secret")
	config := t.TempDir() + "/sentinel.conf"
	must(t, exec.Command("sh", "-c", "printf 'port "+strconv.Itoa(sentinel)+"\\nsentinel monitor mine 127.0.0.1 "+
		strconv.Itoa(port)+" 1\\nsentinel auth-pass mine secret\\n' > "+config).Run())
	process := exec.Command(shared.binary, config, "--sentinel")
	must(t, process.Start())
	t.Cleanup(func() { process.Process.Kill(); process.Wait() }) //nolint:errcheck // it may have ended
	client, err := Connect("redis+sentinel://:secret@127.0.0.1:" + strconv.Itoa(sentinel) + "/mine/3")
	must(t, err)
	eventually(t, "Sentinel answers", func() bool { return client.Ping(ctx).Err() == nil })
	work(t, "q", client)
}
