// Command delayed-sweeper puts the tasks of dead workers back, whatever language they are in.
package main

import (
	"context"
	"flag"
	"time"

	delayed "github.com/delayedq/delayed/interop"
	"github.com/delayedq/delayed/interop/cmd/internal/flags"
)

func main() {
	open := flags.Queues()
	interval := flag.Duration("interval", 5*time.Second, "between two sweeps")
	limit := flag.Int("limit", 3, "the loss that buries a task")
	flag.Parse()

	queues, err := open()
	if err != nil {
		flags.Fail(err)
	}
	sweeper, err := delayed.NewSweeper(queues, delayed.SweepInterval(*interval), delayed.LostLimit(*limit))
	if err != nil {
		flags.Fail(err)
	}
	if err := sweeper.Run(context.Background()); err != nil {
		flags.Fail(err)
	}
}
