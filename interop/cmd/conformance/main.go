// Command conformance is the Go module as a producer, a worker or a sweeper under test: see docs/protocol.md, section 9.
//
//	conformance produce < orders
//	conformance work QUEUE
//	conformance sweep QUEUE
//	conformance ask QUEUE < requests
//	conformance flow QUEUE < request
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/delayedq/delayed/interop/conformance"
	"github.com/delayedq/delayed/interop/delayed"
)

// Echo appends value to the list key.
func Echo(key string, value any) error { return conformance.Echo(key, value) }

// Hold begins, waits until it may go on, and ends.
func Hold(key string) error { return conformance.Hold(key) }

// Fail fails.
func Fail() error { return conformance.Fail() }

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "produce":
		err = produce()
	case len(os.Args) == 3 && os.Args[1] == "work":
		err = work(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "sweep":
		err = sweep(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "ask":
		err = ask(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "flow":
		err = flows(os.Args[2])
	default:
		err = fmt.Errorf("usage: conformance produce | work QUEUE | sweep QUEUE | ask QUEUE | flow QUEUE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func open(name string) (*delayed.Queue, error) {
	client, err := conformance.Client()
	if err != nil {
		return nil, err
	}
	return delayed.NewQueue(name, client, delayed.DequeueTimeout(300*time.Millisecond), delayed.MaxTaskSize(2<<20))
}

func produce() error {
	return conformance.Produce(os.Stdin, os.Stdout, func(order *conformance.Order) error {
		queue, err := open(order.Queue)
		if err != nil {
			return err
		}
		args, err := order.Arguments()
		if err != nil {
			return err
		}
		if order.Language == "go" {
			return queue.Enqueue(context.Background(), delayed.NewGoTask(order.FuncPath, args...))
		}
		kwargs, err := order.Keywords()
		if err != nil {
			return err
		}
		task := delayed.NewPyTask(order.FuncPath, args, kwargs, delayed.Retry(order.Retry))
		return queue.Enqueue(context.Background(), task)
	})
}

func work(name string) error {
	queue, err := open(name)
	if err != nil {
		return err
	}
	worker, err := delayed.NewWorker([]*delayed.Queue{queue}, delayed.TTL(2*time.Second), delayed.Beat(500*time.Millisecond))
	if err != nil {
		return err
	}
	for _, function := range []any{Echo, Hold, Fail, Add, Order, FailUntil, UntilCancelled, Collect, Unless, Grow} {
		if err := worker.Register(function); err != nil {
			return err
		}
	}
	return worker.Run(context.Background())
}

func sweep(name string) error {
	queue, err := open(name)
	if err != nil {
		return err
	}
	sweeper, err := delayed.NewSweeper([]*delayed.Queue{queue}, delayed.SweepInterval(300*time.Millisecond))
	if err != nil {
		return err
	}
	return sweeper.Run(context.Background())
}
