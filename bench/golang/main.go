// Command golang is our own Go worker in the benchmark: `golang work <concurrency>`.
package main

import (
	"context"
	"os"
	"strconv"

	"github.com/delayedq/delayed/bench/golang/harness"
	"github.com/delayedq/delayed/interop/delayed"
)

func main() {
	concurrency, err := strconv.Atoi(os.Args[2])
	harness.Check(err)
	client, err := delayed.Connect(os.Getenv("BENCH_REDIS"))
	harness.Check(err)
	queue, err := delayed.NewQueue("bench", client)
	harness.Check(err)
	worker, err := delayed.NewWorker([]*delayed.Queue{queue}, delayed.Concurrency(concurrency))
	harness.Check(err)
	marks := harness.Marks()
	harness.Check(worker.RegisterAs("bench.Mark", func(i int) { marks[i]++ }))
	harness.Check(worker.Run(context.Background()))
}
