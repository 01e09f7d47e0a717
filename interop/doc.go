// Package delayed is a task queue on Redis that Go and Python programs share: each side enqueues tasks for either language, and
// a worker runs those of its own.
//
//	queue, err := delayed.NewQueue("mail", redis.NewClient(&redis.Options{Addr: "localhost:6379"}))
//	err = queue.Enqueue(ctx, delayed.NewPyTask("shop.mail:send", []any{"alice@example.com"}, nil))
//
//	worker, err := delayed.NewWorker([]*delayed.Queue{queue})
//	err = worker.RegisterAs("main.Resize", Resize)
//	err = worker.Run(ctx)
//
// A task whose enqueue returned is executed at least once, provided Redis keeps its data. It is executed again only if its worker
// died or lost its lease in mid-execution: a killed worker repeats at most what it was executing. What is on Redis, and why, is
// written in docs/protocol.md; every change of state goes through the scripts in lua/, which the Python package runs too.
package delayed
