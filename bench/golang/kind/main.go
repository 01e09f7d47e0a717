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

	"github.com/delayedq/delayed/interop/delayed"
	"golang.org/x/sys/unix"
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
	check(err)
	queue, err := delayed.NewQueue("bench", client)
	check(err)
	switch os.Args[2] {
	case "fill":
		app, err := delayed.NewApp(client, delayed.AppOptions{Queue: "bench"})
		check(err)
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
			check(err)
			handles = append(handles, handle)
		}
	case k.handles:
		calls := make([]delayed.Call, count)
		for i := range calls {
			calls[i] = delayed.Call{Function: k.function, Args: []any{i}, Options: k.options(i)}
		}
		found, err := app.SubmitMany(ctx, calls)
		check(err)
		handles = found
	case oneByOne:
		for task := range tasks(k, count) {
			_, err := queue.Submit(ctx, task)
			check(err)
		}
	default:
		_, err := queue.EnqueueMany(ctx, tasks(k, count))
		check(err)
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
	check(err)
	marks := open()
	check(worker.RegisterAs(mark, func(i int) { marks[i]++ }))
	check(worker.RegisterAs(echo, func(i int) int {
		marks[i]++
		return i
	}))
	check(worker.Run(ctx))
}

// results notes how many results there are, and their sum; of tasks without results how many have succeeded.
func results(ctx context.Context, k kind, queue *delayed.Queue) {
	data, err := os.ReadFile(os.Getenv("BENCH_NOTES"))
	check(err)
	var noted notes
	check(json.Unmarshal(data, &noted))
	sum := 0
	for _, id := range noted.IDs {
		handle := queue.Handle(id)
		if k.function == echo {
			var result int
			check(handle.Result(ctx, &result))
			sum += result
			continue
		}
		status, err := handle.Status(ctx)
		check(err)
		if status.State == delayed.StateSucceeded {
			sum++
		}
	}
	note(map[string]int{"results": len(noted.IDs), "sum": sum})
}

// note writes for the harness.
func note(what any) {
	data, err := json.Marshal(what)
	check(err)
	check(os.WriteFile(os.Getenv("BENCH_NOTES"), data, 0o600))
}

func number(place int) int {
	n, err := strconv.Atoi(os.Args[place])
	check(err)
	return n
}

// open maps the file in which each task has a byte that counts how often it ran.
func open() []byte {
	file, err := os.OpenFile(os.Getenv("BENCH_MARKS"), os.O_RDWR, 0)
	check(err)
	about, err := file.Stat()
	check(err)
	marks, err := unix.Mmap(int(file.Fd()), 0, int(about.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	check(err)
	return marks
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
