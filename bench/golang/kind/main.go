// Command kind is our own Go producer and worker for one kind of task of bench/kinds.py: `kind <kind> fill <tasks>`,
// `kind <kind> work <concurrency>` and, after that, `kind <kind> results`.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/delayedq/delayed/bench/golang/harness"
	"github.com/delayedq/delayed/interop/delayed"
)

const (
	mark = "bench.Mark"
	echo = "bench.Echo"
	few  = 50 // groups and concurrency keys
)

type options = []delayed.TaskOption

// kind is what a kind of task asks for.
type kind struct {
	options  func(i int) options // of the task with this number
	function string
	handles  bool // whoever enqueues it wants handles
}

func always(o ...delayed.TaskOption) func(int) options { return func(int) options { return o } }

var kinds = map[string]kind{
	"plain":         {always(), mark, false},
	"uid":           {always(), mark, true}, // an App gives each task an id
	"retry+backoff": {always(delayed.Retry(3), delayed.Backoff(delayed.Exponential(time.Second))), mark, false},
	"timeout":       {always(delayed.Timeout(30 * time.Second)), mark, false},
	"tracked":       {always(delayed.Track()), mark, true},
	"result":        {always(delayed.ResultTTL(time.Minute)), echo, true},
	"unique": {func(i int) options {
		return options{delayed.Unique(fmt.Sprint("u", i), delayed.UntilDone, 24*time.Hour)}
	}, mark, false},
	"group": {func(i int) options { return options{delayed.Group(fmt.Sprint("g", i%few))} }, mark, false},
	"key":   {func(i int) options { return options{delayed.ConcurrencyKey(fmt.Sprint("k", i%few), 4)} }, mark, false},
}

// notes is what the harness wants to know of an enqueue.
type notes struct {
	Seconds float64  `json:"seconds"`
	IDs     []string `json:"ids"`
}

func main() {
	chosen, ok := kinds[os.Args[1]]
	if !ok {
		log.Fatalf("there is no kind %q", os.Args[1])
	}
	ctx := context.Background()
	client, err := delayed.Connect(os.Getenv("BENCH_REDIS"))
	harness.Check(err)
	queue, err := delayed.NewQueue("bench", client)
	harness.Check(err)
	switch os.Args[2] {
	case "fill":
		app, err := delayed.NewApp(client, delayed.AppOptions{Queue: "bench"})
		harness.Check(err)
		fill(ctx, chosen, queue, app, number(3))
	case "work":
		work(ctx, queue, number(3))
	case "results":
		results(ctx, chosen, queue)
	}
}

func fill(ctx context.Context, k kind, queue *delayed.Queue, app *delayed.App, count int) {
	var handles []*delayed.Handle
	oneByOne := os.Getenv("BENCH_ONE_BY_ONE") == "1"
	began := time.Now()
	switch {
	case k.handles && oneByOne:
		for i := range count {
			handle, err := app.Submit(ctx, k.function, []any{i}, k.options(i)...)
			harness.Check(err)
			handles = append(handles, handle)
		}
	case k.handles:
		calls := make([]delayed.Call, count)
		for i := range calls {
			calls[i] = delayed.Call{Function: k.function, Args: []any{i}, Options: k.options(i)}
		}
		found, err := app.SubmitMany(ctx, calls)
		harness.Check(err)
		handles = found
	case oneByOne:
		for task := range tasks(k, count) {
			_, err := queue.Submit(ctx, task)
			harness.Check(err)
		}
	default:
		_, err := queue.EnqueueMany(ctx, tasks(k, count))
		harness.Check(err)
	}
	noted := notes{Seconds: time.Since(began).Seconds(), IDs: make([]string, len(handles))}
	for i, handle := range handles {
		noted.IDs[i] = handle.ID
	}
	note(noted)
}

func tasks(k kind, count int) iter.Seq[delayed.Task] {
	return func(yield func(delayed.Task) bool) {
		for i := range count {
			if !yield(delayed.NewGoTask(k.function, i).With(k.options(i)...)) {
				return
			}
		}
	}
}

func work(ctx context.Context, queue *delayed.Queue, concurrency int) {
	worker, err := delayed.NewWorker([]*delayed.Queue{queue}, delayed.Concurrency(concurrency))
	harness.Check(err)
	marks := harness.Marks()
	harness.Check(worker.RegisterAs(mark, func(i int) { marks[i]++ }))
	harness.Check(worker.RegisterAs(echo, func(i int) int {
		marks[i]++
		return i
	}))
	harness.Check(worker.Run(ctx))
}

// results notes how many results there are, and their sum; of tasks without results how many have succeeded.
func results(ctx context.Context, k kind, queue *delayed.Queue) {
	data, err := os.ReadFile(os.Getenv("BENCH_NOTES"))
	harness.Check(err)
	var noted notes
	harness.Check(json.Unmarshal(data, &noted))
	sum := 0
	for _, id := range noted.IDs {
		handle := queue.Handle(id)
		if k.function == echo {
			var result int
			harness.Check(handle.Result(ctx, &result))
			sum += result
			continue
		}
		status, err := handle.Status(ctx)
		harness.Check(err)
		if status.State == delayed.StateSucceeded {
			sum++
		}
	}
	note(map[string]int{"results": len(noted.IDs), "sum": sum})
}

// note writes for the harness.
func note(what any) {
	data, err := json.Marshal(what)
	harness.Check(err)
	harness.Check(os.WriteFile(os.Getenv("BENCH_NOTES"), data, 0o600))
}

func number(place int) int {
	n, err := strconv.Atoi(os.Args[place])
	harness.Check(err)
	return n
}
