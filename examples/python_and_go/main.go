// Command python_and_go is the Go half of the example: it runs the tasks that gallery.py enqueues, and enqueues others for Python.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/delayedq/delayed/interop/delayed"
)

const longestSide = 800

// scaler has what its tasks need.
type scaler struct{ gallery *delayed.Queue }

// Scale is what `GoTask("main.Scale", (name, width, height))` calls. What it returns beside its error is the task's result.
func (s *scaler) Scale(ctx context.Context, name string, width, height int) ([]int, error) {
	if width <= 0 || height <= 0 {
		return nil, fmt.Errorf("%s has no size: %dx%d", name, width, height)
	}
	longest := max(width, height, longestSide)
	size := []int{width * longestSide / longest, height * longestSide / longest}
	return size, s.gallery.Enqueue(ctx, delayed.NewPyTask("gallery:publish", []any{name, size}, nil))
}

func main() {
	client, err := delayed.Connect(os.Getenv("DELAYED_REDIS_URL"))
	check(err)
	gallery, err := delayed.NewQueue("gallery", client)
	check(err)
	scaling, err := delayed.NewQueue("scaling", client)
	check(err)
	worker, err := delayed.NewWorker([]*delayed.Queue{scaling}, delayed.Concurrency(4))
	check(err)
	check(worker.RegisterAs("main.Scale", (&scaler{gallery}).Scale))
	check(worker.Run(context.Background())) // until SIGTERM or Ctrl-C
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
