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
// An App has all of that in one object: queues, functions with what their tasks ask for, an id for each task, a worker and a sweeper.
//
//	app, err := delayed.NewApp("redis://localhost:6379/0", delayed.AppOptions{})
//	err = app.HandleAs("main.Resize", Resize, delayed.OnQueue("images"), delayed.Retry(5))
//	handle, err := app.Submit(ctx, "main.Resize", []any{200})
//
// A queue can be durable (Durability), its tasks can be scheduled (Schedule, which sweepers of either language fire), and what has
// failed for good can be looked at and retried (DeadLetters, RetryLetter).
//
// A task may ask for more: to be retried with pauses, to begin later or not too late, to be the only one with a key, to have its
// state and its result kept. Submit returns a handle for these.
//
//	handle, err := queue.Submit(ctx, delayed.NewGoTask("main.Resize", 200).With(delayed.Retry(3), delayed.ResultTTL(time.Hour)))
//	err = handle.Result(ctx, &size)
//
// Tasks of either language that depend on each other are a workflow: a chain, a group, or any graph without circles. A step finds what
// those before it have returned, by Previous, Results or Inputs; docs/workflows.md says what else they can do.
//
//	run, err := queue.SubmitFlow(ctx, delayed.GroupOf(resize, crop).Then(delayed.NewGoTask("main.Store")))
//	state, err := run.Wait(ctx)
//
// Watch tells of what happens in queues: what their tasks come to, their totals, and the workers and sweepers that come and go.
//
// A worker heeds what operators want of a queue (a pause, so many tasks at once, so many a second; see docs/operations.md), lets groups
// of tasks take turns, and runs no more tasks with one concurrency key at once than they say.
//
// A task whose enqueue returned is executed at least once, provided Redis keeps its data. It is executed again only if its worker died
// or lost its lease in mid-execution, or it asked for a retry: a killed worker repeats at most what it was executing. What is on
// Redis, and why, is written in docs/protocol.md; every change of state goes through the scripts in lua/, which the Python package
// runs too.
package delayed
