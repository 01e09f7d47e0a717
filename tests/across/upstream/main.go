// Command upstream is go-delayed, as published, as a producer, a worker or a sweeper of the matrix: see docs/protocol.md, section 9.
package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/delayedq/delayed/interop/conformance"
	"github.com/gomodule/redigo/redis"
	"github.com/keakon/golog"
	"github.com/keakon/golog/log"
	"github.com/yizhisec/go-delayed/delayed"
)

// Echo appends value to the list key.
func Echo(key string, value any) error { return logged(conformance.Echo(key, value)) }

// Hold begins, waits until it may go on, and ends.
func Hold(key string) error { return logged(conformance.Hold(key)) }

// Fail fails.
func Fail() error { return conformance.Fail() }

// logged is for the error that a function returns, which go-delayed does not look at.
func logged(err error) error {
	if err != nil {
		fmt.Fprintln(os.Stderr, "failed", err)
	}
	return err
}

func main() {
	log.SetDefaultLogger(golog.NewStderrLogger())
	address, err := url.Parse(os.Getenv("DELAYED_REDIS_URL"))
	if err != nil || len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: DELAYED_REDIS_URL=redis://… upstream produce | work QUEUE | sweep QUEUE", err)
		os.Exit(1)
	}
	pool := &redis.Pool{Dial: func() (redis.Conn, error) { return redis.Dial("tcp", address.Host) }, MaxIdle: 4}
	switch os.Args[1] {
	case "produce":
		err = conformance.Produce(os.Stdin, os.Stdout, func(order *conformance.Order) error { return enqueue(pool, order) })
	case "work":
		queue := delayed.NewQueue(os.Args[2], pool, delayed.DequeueTimeout(300*time.Millisecond), delayed.KeepAliveTimeout(2*time.Second))
		worker := delayed.NewWorker(queue, delayed.KeepAliveDuration(500*time.Millisecond))
		worker.RegisterHandlers(Echo, Hold, Fail)
		worker.Run()
	case "sweep":
		sweeper := delayed.NewSweeper(delayed.NewQueue(os.Args[2], pool))
		sweeper.SetInterval(300 * time.Millisecond)
		sweeper.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func enqueue(pool *redis.Pool, order *conformance.Order) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %v", value)
		}
	}()
	args, err := order.Arguments()
	if err != nil {
		return err
	}
	queue := delayed.NewQueue(order.Queue, pool)
	if order.Language == "go" {
		return queue.Enqueue(delayed.NewGoTask(order.FuncPath, args...))
	}
	kwargs, err := order.Keywords()
	if err != nil {
		return err
	}
	if order.Retry != 0 {
		return errors.New("go-delayed has no retries")
	}
	return queue.Enqueue(delayed.NewPyTask(order.FuncPath, args, kwargs))
}
