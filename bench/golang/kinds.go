package main

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/delayed"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"
)

// kind is a kind of task: what it asks for, and whether it is enqueued by an App, which gives it an id.
type kind struct {
	name     string
	function string
	options  []delayed.TaskOption
	app      bool
}

const (
	bare   = "bench.Count"
	within = "bench.CountIn" // takes a context, as functions with a timeout should
)

// kinds are all that are compared; the first is what the others are compared with.
var kinds = []kind{
	{name: "plain", function: bare},
	{name: "id (App)", function: bare, app: true},
	{name: "retry, backoff", function: bare, options: []delayed.TaskOption{delayed.Retry(5), delayed.Backoff(delayed.Exponential(time.Second))}},
	{name: "retry_on", function: bare, options: []delayed.TaskOption{delayed.Retry(5), delayed.RetryOn("net.OpError", "ConnectionError")}},
	{name: "timeout", function: bare, options: []delayed.TaskOption{delayed.Timeout(30 * time.Second)}},
	{name: "timeout, context", function: within, options: []delayed.TaskOption{delayed.Timeout(30 * time.Second)}},
	{name: "expires", function: bare, options: []delayed.TaskOption{delayed.Expires(time.Hour)}},
	{name: "metadata", function: bare, options: []delayed.TaskOption{delayed.Metadata(map[string]string{"request": "r-1", "tenant": "a"})}},
	{name: "group", function: bare, options: []delayed.TaskOption{delayed.Group("a")}},
	{name: "tracked", function: bare, options: []delayed.TaskOption{delayed.Track()}},
	{name: "result", function: bare, options: []delayed.TaskOption{delayed.ResultTTL(time.Minute)}},
}

// compare measures all kinds, or those that are named, in turns, and prints a row for each: medians, and shares of plain.
func compare(concurrency, tasks, runs int, names []string) {
	chosen := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool {
		return len(names) > 0 && !slices.Contains(names, k.name) && k.name != kinds[0].name
	})
	enqueued, drained := make([][]float64, len(chosen)), make([][]float64, len(chosen))
	own, used := make([][]float64, len(chosen)), make([][]float64, len(chosen))
	for range runs {
		for i, k := range chosen {
			count := tasks
			if k.name == "tracked" || k.name == "result" {
				count = max(tasks/10, 1)
			}
			m := once(k, concurrency, count)
			enqueued[i], drained[i] = append(enqueued[i], m.enqueued), append(drained[i], m.drained)
			own[i], used[i] = append(own[i], m.own), append(used[i], m.redis)
		}
	}
	fmt.Println("kind | enqueue many/s | of plain | drain/s | of plain | Go µs/task | Redis µs/task")
	for i, k := range chosen {
		fmt.Printf("%s | %.0f | %.2f | %.0f | %.2f | %.1f | %.1f\n", k.name, median(enqueued[i]), ratio(enqueued[i], enqueued[0]),
			median(drained[i]), ratio(drained[i], drained[0]), median(own[i]), median(used[i]))
	}
}

// measured is one run of one kind: tasks a second, and microseconds of CPU, ours and Redis's, for each task that was drained.
type measured struct{ enqueued, drained, own, redis float64 }

// once enqueues and drains so many tasks.
func once(k kind, concurrency, count int) (m measured) {
	ctx := context.Background()
	client, err := delayed.Connect(os.Getenv("BENCH_REDIS"))
	check(err)
	defer client.Close() //nolint:errcheck // it has done its work
	check(client.FlushAll(ctx).Err())
	began := time.Now()
	fill(ctx, client, k, count)
	m.enqueued = float64(count) / time.Since(began).Seconds()

	ran := make([]atomic.Uint32, count)
	queue, err := delayed.NewQueue("bench", client)
	check(err)
	worker, err := delayed.NewWorker([]*delayed.Queue{queue}, delayed.Concurrency(concurrency), delayed.Burst(), delayed.NoSignals(),
		delayed.Logger(slog.New(slog.NewTextHandler(logFile(), nil))))
	check(err)
	var first, last atomic.Int64
	seen := func(i int) {
		if ran[i].Add(1); i == 0 {
			first.Store(time.Now().UnixNano())
		} else if i == count-1 {
			last.Store(time.Now().UnixNano())
		}
	}
	check(worker.RegisterAs(bare, seen))
	check(worker.RegisterAs(within, func(_ context.Context, i int) { seen(i) }))
	before, own := redisCPU(ctx, client), ownCPU()
	check(worker.Run(ctx))
	m.own, m.redis = (ownCPU()-own)*1e6/float64(count), (redisCPU(ctx, client)-before)*1e6/float64(count)
	for i := range ran {
		if ran[i].Load() != 1 {
			check(fmt.Errorf("%s: task %d ran %d times", k.name, i, ran[i].Load()))
		}
	}
	m.drained = float64(count) * 1e9 / float64(last.Load()-first.Load())
	return m
}

func fill(ctx context.Context, client redis.UniversalClient, k kind, count int) {
	if k.app {
		app, err := delayed.NewApp(client, delayed.AppOptions{Queue: "bench"})
		check(err)
		calls := make([]delayed.Call, count)
		for i := range calls {
			calls[i] = delayed.Call{Function: k.function, Args: []any{i}, Options: k.options}
		}
		_, err = app.SubmitMany(ctx, calls)
		check(err)
		return
	}
	queue, err := delayed.NewQueue("bench", client)
	check(err)
	_, err = queue.EnqueueMany(ctx, tasksOf(k, count))
	check(err)
}

func tasksOf(k kind, count int) iter.Seq[delayed.Task] {
	return func(yield func(delayed.Task) bool) {
		for i := range count {
			if !yield(delayed.NewGoTask(k.function, i).With(k.options...)) {
				return
			}
		}
	}
}

// ownCPU is how long this process has used a CPU, in seconds.
func ownCPU() float64 {
	var used unix.Rusage
	check(unix.Getrusage(unix.RUSAGE_SELF, &used))
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

// redisCPU is how long Redis has used a CPU, in seconds.
func redisCPU(ctx context.Context, client redis.UniversalClient) float64 {
	info := client.InfoMap(ctx, "cpu").Item("CPU", "used_cpu_sys")
	system, err := strconv.ParseFloat(info, 64)
	check(err)
	user, err := strconv.ParseFloat(client.InfoMap(ctx, "cpu").Item("CPU", "used_cpu_user"), 64)
	check(err)
	return system + user
}

// logFile is where the workers log, at INFO: to a file, as a service manager does.
func logFile() *os.File {
	file, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	check(err)
	return file
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// ratio is the median of the shares of each run.
func ratio(values, of []float64) float64 {
	shares := make([]float64, len(values))
	for i := range values {
		shares[i] = values[i] / of[i]
	}
	return median(shares)
}
