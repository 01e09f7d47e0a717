// Command delayed-worker runs the few functions in tasks.go; it is an example of a worker, and what demonstrations and tests use.
package main

import (
	"context"
	"flag"
	"time"

	"github.com/delayedq/delayed/interop/cmd/internal/flags"
	"github.com/delayedq/delayed/interop/delayed"
)

// functions are those that it runs.
var functions = []any{Noop, Append, Log, Sleep, SleepAppend, Fail, Panic, Sha256File}

func main() {
	open := flags.Queues()
	concurrency := flag.Int("concurrency", 1, "tasks that run at a time")
	ttl := flag.Duration("ttl", 10*time.Second, "how long a lease lives after a beat")
	beat := flag.Duration("beat", 3*time.Second, "how often the leases are kept alive")
	grace := flag.Duration("grace", 25*time.Second, "how long a stopped worker may go on with what runs")
	timeout := flag.Duration("dequeue-timeout", 2*time.Second, "how long an idle worker waits before it looks for itself")
	burst := flag.Bool("burst", false, "end when all queues are empty")
	flag.Parse()

	queues, err := open(delayed.DequeueTimeout(*timeout))
	if err != nil {
		flags.Fail(err)
	}
	options := []delayed.WorkerOption{
		delayed.Concurrency(*concurrency), delayed.TTL(*ttl), delayed.Beat(*beat), delayed.Grace(*grace),
	}
	if *burst {
		options = append(options, delayed.Burst())
	}
	worker, err := delayed.NewWorker(queues, options...)
	if err != nil {
		flags.Fail(err)
	}
	for _, function := range functions {
		if err := worker.Register(function); err != nil {
			flags.Fail(err)
		}
	}
	if err := worker.Run(context.Background()); err != nil {
		flags.Fail(err)
	}
}
