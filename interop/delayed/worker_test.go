package delayed

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
	"github.com/vmihailenco/msgpack/v5"
)

var ctx = context.Background()

func many(count int, task func(int) Task) iter.Seq[Task] {
	return func(yield func(Task) bool) {
		for i := range count {
			if !yield(task(i)) {
				return
			}
		}
	}
}

func TestEveryTaskRunsOnce(t *testing.T) {
	for _, concurrency := range []int{1, 8} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			queue := newQueue(t)
			count, err := queue.EnqueueMany(ctx, many(5000, func(i int) Task { return NewGoTask("main.F", i) }))
			if err != nil || count != 5000 {
				t.Fatal(count, err)
			}
			ran := make([]atomic.Int32, 5000)
			worker := newWorker(t, queue, map[string]any{"main.F": func(i int) { ran[i].Add(1) }}, Concurrency(concurrency), Burst())
			must(t, worker.Run(ctx))
			for i := range ran {
				if ran[i].Load() != 1 {
					t.Fatalf("task %d ran %d times", i, ran[i].Load())
				}
			}
			if !clean(t, queue) { // U3: every finished task is released
				t.Error("something is left")
			}
		})
	}
}

func TestATaskThatArrivesLaterRuns(t *testing.T) {
	queue := newQueue(t)
	ran := make(chan string, 10)
	start(t, queue, map[string]any{"main.F": func(s string) { ran <- s }})
	for _, text := range []string{"a", "b"} {
		enqueue(t, queue, NewGoTask("main.F", text))
		if got := <-ran; got != text {
			t.Fatal(got)
		}
	}
	must(t, queue.store.Client.RPush(ctx, queue.Name(), "\x92\xa6main.F\xc4\x02\xa1c").Err()) // its notification was lost
	if got := <-ran; got != "c" {
		t.Fatal(got)
	}
}

func TestEndings(t *testing.T) {
	queue := newQueue(t)
	worker := newWorker(t, queue, map[string]any{
		"main.Fail":   func() error { return errors.New("boom") },
		"main.Panic":  func() { panic("bang") },
		"main.Exit":   func() { runtime.Goexit() },
		"main.Nil":    func(p *pair) string { return p.B },
		"main.One":    func(int) {},
		"main.Fine":   func() int { return 1 },
		"main.Bare":   func() {},
		"main.Struct": func(context.Context, pair) error { return nil },
	}, Burst(), UnreadyFor(0))
	enqueue(t, queue, NewGoTask("main.Fail"), NewGoTask("main.Panic"), NewGoTask("main.Exit"), NewGoTask("main.Nil", nil),
		NewGoTask("main.Missing"), NewGoTask("main.One", "x"), NewPyTask("m:f", nil, nil), NewGoTask("main.Fine"),
		NewGoTask("main.Struct", pair{1, "x"}))
	for _, task := range []string{"\xc1", "\xa9main.Bare", "\x93\xa9main.Fine\xc0\x81\xa2!x\xc0", "\x93\xa9main.Fine\xc0\x81\xa1x\xc0"} {
		must(t, queue.store.Client.RPush(ctx, queue.Name(), task).Err())
	}
	must(t, worker.Run(ctx))
	want := [][2]string{
		{"failed", "boom"}, {"failed", "panic: bang"}, {"failed", "Goexit"}, {"failed", "nil pointer"}, {"unknown_function", "main.Missing"},
		{"bad_arguments", "main.One"}, {"wrong_language", "m:f"}, {"undecodable", "c1"}, {"unknown_header", "!x"},
	}
	letters := deadLetters(t, queue)
	if len(letters) != len(want) || worker.succeeded() != 4 {
		t.Fatalf("%d succeeded; %q", worker.succeeded(), letters)
	}
	for i, letter := range letters {
		if letter.reason != want[i][0] || !strings.Contains(letter.detail, want[i][1]) {
			t.Errorf("%q, not %q", letter, want[i])
		}
	}
	if !strings.Contains(letters[1].detail, "worker_test.go") {
		t.Errorf("no stack: %s", letters[1].detail)
	}
	if letters[7].task != "\xc1" {
		t.Errorf("%q", letters[7].task)
	}
}

func TestConcurrency(t *testing.T) {
	queue := newQueue(t)
	var together sync.WaitGroup
	together.Add(5)
	start(t, queue, map[string]any{"main.Meet": func() { together.Done(); together.Wait() }}, Concurrency(5))
	for range 5 {
		enqueue(t, queue, NewGoTask("main.Meet"))
	}
	select {
	case <-background(together.Wait):
	case <-time.After(time.Minute):
		t.Fatal("they do not run together")
	}
}

func TestWhatWaitsBehindASlowTaskIsGivenBack(t *testing.T) {
	queue := newQueue(t)
	release, begun := make(chan struct{}), make(chan struct{})
	functions := map[string]any{
		"main.Slow": func() { close(begun); <-release },
		"main.Fast": func() {},
	}
	fast := func(int) Task { return NewGoTask("main.Fast") }
	_, err := queue.EnqueueMany(ctx, many(3000, fast))
	must(t, err)
	enqueue(t, queue, NewGoTask("main.Slow"))
	_, err = queue.EnqueueMany(ctx, many(50, fast))
	must(t, err)
	worker := start(t, queue, functions)
	<-begun
	eventually(t, "the tasks behind it are in the queue again", func() bool {
		waiting, err := queue.Len(ctx)
		must(t, err)
		announced, err := queue.store.Client.LLen(ctx, queue.store.Keys.Noti).Result()
		must(t, err)
		return waiting == 50 && announced == 50
	})
	close(release)
	eventually(t, "all ran", func() bool { return worker.succeeded() == 3051 })
}

func TestASuspectRunsAloneAndClearsItsName(t *testing.T) {
	queue := newQueue(t)
	var running, most atomic.Int32
	function := func(int) {
		most.Store(max(most.Load(), running.Add(1)))
		time.Sleep(20 * time.Millisecond) // the work
		running.Add(-1)
	}
	for i := range 3 {
		enqueue(t, queue, NewGoTask("main.F", i))
	}
	taken, err := queue.store.Take(ctx, []string{"x", "y", "z"}, rdb.TakeOptions{TTL: time.Minute})
	must(t, err)
	must(t, queue.store.Client.Del(ctx, "x", "y", "z").Err())
	swept, err := queue.store.Sweep(ctx, []string{"x", "y", "z"}, 3, "p", "me")
	if err != nil || len(taken.Tasks) != 3 || swept.Recovered != 3 {
		t.Fatal(taken, swept, err)
	}
	must(t, newWorker(t, queue, map[string]any{"main.F": function}, Concurrency(3), Burst()).Run(ctx))
	if most.Load() != 1 {
		t.Errorf("%d suspects ran together", most.Load())
	}
	if n := queue.store.Client.HLen(ctx, queue.store.Keys.Lost).Val(); n != 0 {
		t.Errorf("%d are still suspects", n)
	}
}

func TestSuperseded(t *testing.T) {
	queue := newQueue(t)
	release, begun := make(chan struct{}), make(chan struct{})
	var log bytes.Buffer
	worker := newWorker(t, queue, map[string]any{"main.F": func() { close(begun); <-release }},
		Burst(), Logger(slog.New(slog.NewTextHandler(&log, nil))), Beat(20*time.Millisecond))
	enqueue(t, queue, NewGoTask("main.F"))
	done := background(func() { worker.Run(ctx) }) //nolint:errcheck // looked at below
	<-begun
	held := queue.store.Client.HKeys(ctx, queue.store.Keys.Processing).Val()
	must(t, queue.store.Client.Del(ctx, held...).Err())
	must(t, queue.store.Client.Del(ctx, queue.store.Keys.Processing).Err()) // as a sweeper does who finds the key gone
	eventually(t, "a beat finds the key gone", func() bool { return queue.store.Client.Exists(ctx, held...).Val() == 1 })
	close(release)
	<-done
	if worker.superseded.Load() != 1 || !strings.Contains(log.String(), "superseded: the lease") {
		t.Errorf("%d %s", worker.superseded.Load(), log.String())
	}
}

func TestHeartbeat(t *testing.T) {
	queue := newQueue(t)
	release, begun := make(chan struct{}), make(chan struct{})
	start(t, queue, map[string]any{"main.F": func() { close(begun); <-release }}, Beat(50*time.Millisecond), TTL(300*time.Millisecond))
	enqueue(t, queue, NewGoTask("main.F"))
	defer close(release)
	<-begun
	held := queue.store.Client.HKeys(ctx, queue.store.Keys.Processing).Val()
	if len(held) != 1 {
		t.Fatal(held)
	}
	must(t, queue.store.Client.Del(ctx, held[0]).Err())
	eventually(t, "the lease's key is made again", func() bool { return queue.store.Client.Exists(ctx, held[0]).Val() == 1 })
	until := time.Now().Add(600 * time.Millisecond)
	eventually(t, "the lease outlives its TTL", func() bool {
		if queue.store.Client.Exists(ctx, held[0]).Val() != 1 {
			t.Fatal("it died")
		}
		return time.Now().After(until)
	})
	for own, text := range queue.store.Client.HGetAll(ctx, queue.store.Keys.Workers).Val() {
		var about map[string]any
		must(t, msgpack.Unmarshal([]byte(text), &about))
		if queue.store.Client.Exists(ctx, own).Val() != 1 || about["language"] != "go" || about["kind"] != "worker" || about["running"] != "main.F" {
			t.Errorf("%s %v", own, about)
		}
	}
}

func TestGrace(t *testing.T) {
	queue := newQueue(t)
	begun, gaveUp := make(chan struct{}), make(chan error, 1)
	worker := newWorker(t, queue, map[string]any{"main.F": func(ctx context.Context) { close(begun); <-ctx.Done(); gaveUp <- ctx.Err() }},
		Grace(50*time.Millisecond))
	enqueue(t, queue, NewGoTask("main.F"))
	done := make(chan error)
	run, stop := context.WithCancel(ctx)
	go func() { done <- worker.Run(run) }()
	<-begun
	stop()
	if err := <-done; !errors.Is(err, ErrForced) {
		t.Error(err)
	}
	<-gaveUp
	if n, err := queue.Len(ctx); n != 1 || err != nil {
		t.Error(n, err)
	}
	if n := queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() + queue.store.Client.HLen(ctx, queue.store.Keys.Workers).Val(); n != 0 {
		t.Error("traces are left")
	}
}

func TestAStoppedWorkerFinishesWhatRuns(t *testing.T) {
	queue := newQueue(t)
	release, begun := make(chan struct{}), make(chan struct{}, 2)
	worker := newWorker(t, queue, map[string]any{"main.F": func() { begun <- struct{}{}; <-release }})
	enqueue(t, queue, NewGoTask("main.F"), NewGoTask("main.F"))
	done := background(func() { must(t, worker.Run(ctx)) })
	<-begun
	worker.Stop()
	worker.Stop()
	close(release)
	<-done
	if n, _ := queue.Len(ctx); n != 1 || worker.succeeded() != 1 {
		t.Errorf("%d wait, %d succeeded", n, worker.succeeded())
	}
}

func TestPriority(t *testing.T) {
	high, client := newQueue(t), connectTo(t, shared)
	low, err := NewQueue("q"+rdb.Token(), high.store.Client)
	must(t, err)
	var order []string
	enqueue(t, low, NewGoTask("main.F", "low"), NewGoTask("main.F", "low"))
	enqueue(t, high, NewGoTask("main.F", "high"), NewGoTask("main.F", "high"))
	worker, err := NewWorker([]*Queue{high, low}, NoSignals(), Burst(), Logger(slog.New(slog.DiscardHandler)))
	must(t, err)
	must(t, worker.RegisterAs("main.F", func(s string) { order = append(order, s) }))
	must(t, worker.Run(ctx))
	if !slices.Equal(order, []string{"high", "high", "low", "low"}) {
		t.Error(order)
	}
	other, err := NewQueue("q"+rdb.Token(), client)
	must(t, err)
	if _, err := NewWorker([]*Queue{high, other}); !errors.Is(err, ErrConfiguration) {
		t.Error(err)
	}
}

func TestRedisGoesAwayAndComesBack(t *testing.T) {
	const count = 1000
	redisServer := ownSyncing(t, "no")
	queue := queueOn(t, redisServer)
	var ran sync.Map
	begun, release := make(chan struct{}), make(chan struct{})
	functions := map[string]any{
		"main.F":    func(i int) { ran.Store(i, true) },
		"main.Slow": func() { close(begun); <-release },
	}
	worker := start(t, queue, functions, Concurrency(4), Beat(100*time.Millisecond), TTL(time.Second))
	enqueue(t, queue, NewGoTask("main.Slow"))
	<-begun
	for round := range 3 {
		_, err := queue.EnqueueMany(ctx, many(count, func(i int) Task { return NewGoTask("main.F", count*round+i) }))
		must(t, err)
		redisServer.kill()
		if round == 1 {
			close(release) // it ends while there is no Redis
		}
		must(t, redisServer.start(true))
	}
	number := 0 // all before it have run
	defer func() {
		if t.Failed() {
			waiting, err := queue.Len(ctx)
			t.Log("the first that has not run is ", number, "; ", waiting, " wait, ", worker.inFlight(), " are in flight", err)
		}
	}()
	eventually(t, "all ran", func() bool {
		for found := true; found && number < 3*count; {
			if _, found = ran.Load(number); found {
				number++
			}
		}
		return number == 3*count
	})
	eventually(t, "all are released", func() bool {
		return queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() == 0 && worker.inFlight() == 0
	})
	if worker.superseded.Load() != 0 || worker.succeeded() < 3*count+1 {
		t.Errorf("%d superseded, %d succeeded", worker.superseded.Load(), worker.succeeded())
	}
}

func TestAnEnqueueIsSentOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // it takes the command, and hangs up
	must(t, err)
	defer listener.Close()
	var evals atomic.Int32
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buffer := make([]byte, 65536)
				for {
					n, err := c.Read(buffer)
					if err != nil {
						return
					}
					if strings.Contains(strings.ToLower(string(buffer[:n])), "eval") {
						evals.Add(1)
						return
					}
					for range strings.Count(string(buffer[:n]), "*") {
						c.Write([]byte("-ERR unknown command\r\n")) //nolint:errcheck // it is a bad server anyway
					}
				}
			}()
		}
	}()
	client := redis.NewClient(&redis.Options{Addr: listener.Addr().String(), MaxRetries: 3, DisableIdentity: true})
	defer client.Close()
	queue, err := NewQueue("q", client)
	must(t, err)
	durable, err := NewQueue("q", client, Durability("replicas:1"))
	must(t, err)
	for i, each := range []*Queue{queue, durable} {
		if err := each.Enqueue(ctx, NewGoTask("main.F")); !errors.Is(err, ErrOutcomeUnknown) {
			t.Error(err)
		}
		if evals.Load() != int32(i)+1 {
			t.Errorf("sent %d times", evals.Load())
		}
	}
	listener.Close()
	for _, each := range []*Queue{queue, durable} {
		if err := each.Enqueue(ctx, NewGoTask("main.F")); err == nil || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("nobody listens: %v", err)
		}
	}
}

func TestConfiguration(t *testing.T) {
	client := connectTo(t, shared)
	for _, name := range []string{"", "a_noti", "a_processing", "a_lost", "a_dead", "a_workers", "a_stats", "a_scheduled", "a_cron", "a_cron_due", "a_lease_b",
		"a_task_" + strings.Repeat("x", 16), "a_unique_" + strings.Repeat("0", 40),
		"a_slots_" + strings.Repeat("f", 40), "a_waits_" + strings.Repeat("f", 40), "a_group_" + strings.Repeat("a", 40)} {
		if _, err := NewQueue(name, client); !errors.Is(err, ErrConfiguration) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := NewQueue("a", redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"x:1"}})); !errors.Is(err, ErrConfiguration) {
		t.Error(err)
	}
	queue := newQueue(t, MaxTaskSize(20))
	if err := queue.Enqueue(ctx, NewGoTask("main.F", strings.Repeat("x", 20))); !errors.Is(err, ErrTaskTooLarge) {
		t.Error(err)
	}
	for _, option := range []WorkerOption{Concurrency(0), Beat(0), TTL(time.Second), Grace(-1)} {
		if _, err := NewWorker([]*Queue{queue}, option); !errors.Is(err, ErrConfiguration) {
			t.Error(err)
		}
	}
	for _, address := range []string{"http://x", "redis+sentinel://host", "redis+sentinel://host/a/b"} {
		if _, err := Connect(address); !errors.Is(err, ErrConfiguration) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// What the published producers and sweepers leave on Redis is served as it is.
func TestUpstreamMix(t *testing.T) {
	queue := newQueue(t)
	for _, vector := range taskVectors(t) {
		if vector.Language == "go" {
			data, err := hex.DecodeString(vector.Hex)
			must(t, err)
			must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Processing, "worker of "+vector.Name, data).Err()) // held by dead workers
		}
	}
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals(), SweeperLogger(slog.New(slog.DiscardHandler)))
	must(t, err)
	must(t, sweeper.Sweep(ctx))
	saw := map[string]int{}
	see := func(what string, values ...any) { saw[fmt.Sprint(what, values)]++ }
	worker := newWorker(t, queue, map[string]any{
		"main.Note": func(text string, number int) { see("Note", text, number) },
		"main.Var":  func(numbers ...int) { see("Var", numbers) },
		"main.One":  func(p *pair) { see("One", *p) },
		"main.Zero": func() { see("Zero") },
	}, Burst(), UnreadyFor(0))
	must(t, worker.Run(ctx))
	want := map[string]int{"Note[x 300]": 1, "Var[[1]]": 1, "One[{1 test}]": 1, "Zero[]": 3}
	if !maps.Equal(saw, want) || worker.succeeded() != 6 {
		t.Errorf("%v %q", saw, deadLetters(t, queue))
	}
	if n := queue.store.Client.Exists(ctx, queue.store.Keys.Processing, queue.store.Keys.Lost, queue.store.Keys.Noti).Val(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

func TestPace(t *testing.T) {
	var p lease.Prefetch
	sizes := []int{}
	for range 10 {
		p.Adapt(10, 1000, time.Microsecond, 1)
		sizes = append(sizes, p.Ahead)
	}
	if !slices.Equal(sizes, []int{1, 3, 7, 15, 31, 63, 64, 64, 64, 64}) {
		t.Error(sizes)
	}
	p.Adapt(1, 100, 10*time.Millisecond, 1)
	if p.Ahead != 0 {
		t.Error("slow tasks are taken ahead")
	}
	p.Ahead = 100
	p.Adapt(1, 1<<19, time.Microsecond, 1)
	if p.Ahead != 2 {
		t.Errorf("%d large tasks are taken ahead", p.Ahead)
	}
	p.Reset()
	if p.Ahead != 0 {
		t.Error("it did not begin anew")
	}
	p.Trip = time.Millisecond
	for range 12 {
		p.Adapt(10, 1000, time.Microsecond, 1)
	}
	if p.Ahead != lease.FarAhead {
		t.Errorf("%d tasks are taken ahead where Redis is far away", p.Ahead)
	}
	if p.Adapt(1, 100, 10*time.Millisecond, 1); p.Ahead != 0 {
		t.Error("slow tasks are taken ahead where Redis is far away")
	}
}
