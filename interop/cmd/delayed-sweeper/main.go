// Command delayed-sweeper puts the tasks of dead workers back, moves what is due, fires schedules and bounds the dead letters, whatever
// language they are in.
package main

import (
	"context"
	"flag"
	"fmt"
	"time"
	_ "time/tzdata" // for machines without zones

	"github.com/delayedq/delayed/interop/cmd/internal/flags"
	"github.com/delayedq/delayed/interop/delayed"
)

const longest = 100_000 // days

func main() {
	open := flags.Queues()
	interval := flag.Duration("interval", 5*time.Second, "between two sweeps")
	limit := flag.Int("limit", 3, "the loss that buries a task")
	most := flag.Int("dead-max", 100_000, "dead letters that a queue keeps, about; 0: all")
	days := flag.Float64("dead-days", 30, "days that it keeps them, about; 0: for ever")
	flag.Parse()

	if !(*days >= 0 && *days <= longest) { // or it is no number
		flags.Fail(fmt.Errorf("-dead-days is a number of days from 0 to %d, not %g", longest, *days))
	}
	queues, err := open()
	if err != nil {
		flags.Fail(err)
	}
	age := time.Duration(*days * 24 * float64(time.Hour))
	sweeper, err := delayed.NewSweeper(queues, delayed.SweepInterval(*interval), delayed.LostLimit(*limit),
		delayed.DeadMax(*most), delayed.DeadAge(age))
	if err != nil {
		flags.Fail(err)
	}
	if err := sweeper.Run(context.Background()); err != nil {
		flags.Fail(err)
	}
}
