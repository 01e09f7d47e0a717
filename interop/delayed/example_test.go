package delayed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// What a team of only Go does with schedules, durability and dead letters; docs/guide.md shows it.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, err := Connect(shared.url())
	check(err)
	defer client.Close()

	queue, err := NewQueue("example-"+rdb.Token(), client, Durability("memory")) // or "aof", or "replicas:1"
	check(err)
	nightly := Cron{Expression: "30 2 * * *", TZ: "Europe/Zurich", CatchUp: OneMissed}
	_, err = queue.Schedule(ctx, "report", NewGoTask("main.Report", "daily").With(Retry(3)), nightly)
	check(err)
	check(queue.RunSchedule(ctx, "report")) // now, beside its times

	sweeper, err := NewSweeper([]*Queue{queue}, DeadMax(10_000), DeadAge(7*24*time.Hour),
		SweeperNoSignals(), SweeperLogger(slog.New(slog.DiscardHandler))) // in a program of its own: neither
	check(err)
	go sweeper.Run(ctx) //nolint:errcheck // it ends with ctx

	count := 0
	for letter, err := range queue.DeadLetters(ctx) { // newest first
		check(err)
		if letter.Reason == Failed {
			there, err := queue.RetryLetter(ctx, letter)
			check(err)
			fmt.Println(there)
		}
		count++
	}
	waiting, err := queue.Len(ctx)
	check(err)
	fmt.Println(waiting, count)
	client.Del(ctx, queue.Name(), queue.store.Keys.Noti, queue.store.Keys.Cron, queue.store.Keys.CronDue, queue.store.Keys.Wake)
	// Output: 1 0
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// An application: its functions with what their tasks ask for, and what serves them.
func ExampleApp() {
	ctx := context.Background()
	app, err := NewApp(shared.url(), AppOptions{ // for "" the environment says where Redis is
		Prefix: "example-" + rdb.Token() + "-", Priorities: []string{"mail"},
	})
	check(err)
	defer app.Close()

	welcome := func(ctx context.Context, name string) {
		fmt.Println("Welcome,", name, CurrentTask(ctx).Metadata["tenant"])
	}
	check(app.HandleAs("main.Welcome", welcome, OnQueue("mail"), Retry(5))) // or app.Handle(Welcome, …), for a function with a name
	check(app.Declare("shop.jobs:invoice", OnQueue("invoices")))            // Python's workers run it

	tenant := Metadata(map[string]string{"tenant": "acme"})
	handle, err := app.Submit(ctx, "main.Welcome", []any{"Ada"}, tenant)
	check(err)
	_, err = app.Submit(ctx, "main.Welcome", []any{"Grace"}, tenant, Priority("high"))
	check(err)
	_, err = app.SubmitMany(ctx, []Call{{Function: "shop.jobs:invoice", Args: []any{7}}, {Function: "shop.jobs:invoice", Args: []any{8}}})
	check(err)
	fmt.Println(len(handle.ID), handle.Tracked)

	worker, err := app.Worker(Burst(), NoSignals(), Logger(slog.New(slog.DiscardHandler))) // in a program of its own: Concurrency(10)
	check(err)
	check(worker.Run(ctx))
	// Output:
	// 16 false
	// Welcome, Grace acme
	// Welcome, Ada acme
}

// A program that follows a queue, until it has seen enough.
func ExampleWatch() {
	ctx, enough := context.WithTimeout(context.Background(), time.Minute)
	defer enough()
	client, err := Connect(shared.url())
	check(err)
	defer client.Close()
	queue, err := NewQueue("example-"+rdb.Token(), client)
	check(err)
	check(queue.Enqueue(ctx, NewGoTask("main.Report")))

	err = Watch(ctx, []*Queue{queue}, func(seen Watched) {
		switch seen.Kind {
		case "task": // what an attempt came to, if the history of the queue keeps that
			fmt.Println(seen.Event.Outcome, seen.Event.Task, seen.Event.Said)
		case "came", "went", "lost": // a worker or a sweeper
			fmt.Println(seen.Kind, seen.Process, seen.Place)
		case "stats": // the totals, once a second, if they have changed
			fmt.Println(seen.Stats.Enqueued, "enqueued,", seen.Stats.Waiting, "waiting")
			enough()
		}
	})
	fmt.Println(errors.Is(err, context.Canceled))
	client.Del(context.Background(), queue.Name(), queue.store.Keys.Noti)
	// Output:
	// 1 enqueued, 1 waiting
	// true
}
