// Command quickstart enqueues a task for a Python worker, and serves Go tasks that Python (or Go) programs enqueue.
package main

import (
	"context"
	"log"
	"os"

	"github.com/delayedq/delayed/interop/delayed"
)

// Greet is what `GoTask("main.Greet", ("Ada",))` calls.
func Greet(name string) { log.Printf("Hello, %s!", name) }

func main() {
	client, err := delayed.Connect(os.Getenv("REDIS_URL")) // redis://localhost:6379/0
	check(err)
	python, err := delayed.NewQueue("python", client)
	check(err)
	check(python.Enqueue(context.Background(), delayed.NewPyTask("posixpath:join", []any{"a", "b"}, nil)))

	queue, err := delayed.NewQueue("go", client)
	check(err)
	worker, err := delayed.NewWorker([]*delayed.Queue{queue}, delayed.Concurrency(10))
	check(err)
	check(worker.Register(Greet))
	check(worker.Run(context.Background())) // until SIGTERM or Ctrl-C
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
