// Command delayed-worker runs the few functions in tasks.go; it is an example of a worker, and what demonstrations and tests use.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/delayedq/delayed/interop/cmd/internal/flags"
	"github.com/delayedq/delayed/interop/delayed"
)

const most = 100_000 // tasks that run at a time

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
	metrics := flag.String("metrics-addr", "", "serve /metrics for Prometheus at this host:port")
	flag.Parse()

	if *concurrency > most {
		flags.Fail(fmt.Errorf("-concurrency is at most %d, not %d", most, *concurrency))
	}
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
	if *metrics != "" {
		listener, err := net.Listen("tcp", *metrics)
		if err != nil {
			flags.Fail(err)
		}
		pages := http.NewServeMux()
		pages.Handle("/metrics", worker.Metrics())
		server := &http.Server{Handler: pages, ReadHeaderTimeout: 10 * time.Second}
		go server.Serve(listener) //nolint:errcheck // it ends with the process
	}
	if err := worker.Run(context.Background()); err != nil {
		flags.Fail(err)
	}
}
