package delayed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/delayed"
)

// docs/workflows.md shows what is in these functions; tests/documents/test_guide.py sees to that.

var healthy atomic.Bool // what Flaky needs

func Charge(order int) string { return fmt.Sprintf("order %d: charged", order) }

func Reserve(ctx context.Context) (string, error) {
	var before string
	err := delayed.Previous(ctx, &before)
	return before + ", reserved", err
}

func Invoice(customer int) int { return customer * 100 }

func Total(ctx context.Context) (sum int, err error) {
	for each, err := range delayed.Results[int](ctx) {
		if err != nil {
			return 0, err
		}
		sum += each
	}
	return sum, nil
}

func Fetch(url string) []string { return []string{url + "/1", url + "/2"} }

func Parse(page, language string) string { return page + " in " + language }

func Store(ctx context.Context) (pages []string, err error) {
	err = delayed.Previous(ctx, &pages)
	return pages, err
}

func Check(number int) (int, error) {
	if number == 2 {
		return 0, errors.New("not two")
	}
	return number, nil
}

func Report(ctx context.Context) (lines []string, err error) {
	for input, err := range delayed.Inputs(ctx) {
		if err != nil {
			return nil, err
		}
		number := 0
		if err := input.Value(&number); err != nil {
			lines = append(lines, fmt.Sprint(input.State))
			continue
		}
		lines = append(lines, fmt.Sprint(number))
	}
	return lines, nil
}

func Apologize(ctx context.Context) string {
	return fmt.Sprint("sorry: ", delayed.Previous(ctx, nil))
}

func Publish(ctx context.Context) (string, error) {
	var said map[string]string
	err := delayed.Previous(ctx, &said)
	return "approved by " + said["by"], err
}

func Crawl(ctx context.Context, page int) (int, error) {
	if page >= 4 {
		return page, nil
	}
	more := delayed.GroupOf(delayed.NewGoTaskOf(Crawl, 2*page), delayed.NewGoTaskOf(Crawl, 2*page+1))
	_, err := delayed.AddToFlow(ctx, more, "")
	return page, err
}

func Crawled(ctx context.Context) (pages []int, err error) {
	for page, err := range delayed.Results[int](ctx) {
		if err != nil {
			return nil, err
		}
		pages = append(pages, page)
	}
	slices.Sort(pages)
	return pages, nil
}

func Count(ctx context.Context) (int, error) {
	run, err := delayed.FlowOf(ctx)
	if err != nil {
		return 0, err
	}
	status, err := run.Status(ctx)
	return status.Succeeded, err
}

func Flaky() (string, error) {
	if !healthy.Load() {
		return "", errors.New("down")
	}
	return "up", nil
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// serving is an application with a worker and a sweeper, and a context that ends them.
func serving() (ctx context.Context, app *delayed.App, stop func()) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	app, err := delayed.NewApp(delayed.SharedURL(), delayed.AppOptions{Prefix: "q" + delayed.NewID()})
	check(err)
	for _, function := range []any{Charge, Reserve, Invoice, Total, Fetch, Parse, Store, Check, Report, Apologize, Publish, Crawl, Crawled, Count, Flaky} {
		check(app.Handle(function))
	}
	quiet := slog.New(slog.DiscardHandler)
	worker, err := app.Worker(delayed.Concurrency(4), delayed.NoSignals(), delayed.Logger(quiet))
	check(err)
	sweeper, err := app.Sweeper(delayed.SweeperNoSignals(), delayed.SweeperLogger(quiet))
	check(err)
	ended := make(chan error, 2)
	go func() { ended <- worker.Run(context.Background()) }()
	go func() { ended <- sweeper.Run(context.Background()) }()
	return ctx, app, func() {
		worker.Stop()
		sweeper.Stop()
		check(errors.Join(<-ended, <-ended, app.Close()))
		cancel()
	}
}

func ExampleChainOf() {
	ctx, app, stop := serving()
	defer stop()

	run, err := app.SubmitFlow(ctx, delayed.ChainOf(delayed.CallOf(Charge, 17), delayed.CallOf(Reserve)))
	check(err)
	var said string
	check(run.Result(ctx, &said))
	fmt.Println(said) // → order 17: charged, reserved

	// Output:
	// order 17: charged, reserved
}

func ExampleGroupOf() {
	ctx, app, stop := serving()
	defer stop()

	invoices := delayed.GroupOf(delayed.CallOf(Invoice, 1), delayed.CallOf(Invoice, 2), delayed.CallOf(Invoice, 3))
	run, err := app.SubmitFlow(ctx, invoices.Then(delayed.CallOf(Total).With(delayed.Retry(2))))
	check(err)
	var sum int
	check(run.Result(ctx, &sum))
	fmt.Println(sum) // → 600

	nested := delayed.GroupOf(delayed.GroupOf(delayed.CallOf(Invoice, 1), delayed.CallOf(Invoice, 2)).Then(delayed.CallOf(Total)), delayed.CallOf(Invoice, 3))
	run, err = app.SubmitFlow(ctx, nested.Then(delayed.CallOf(Total)))
	check(err)
	check(run.Result(ctx, &sum))
	fmt.Println(sum) // → 600

	// Output:
	// 600
	// 600
}

func ExampleFlow() {
	ctx, app, stop := serving()
	defer stop()

	flow := app.Flow("order")
	paid := flow.Add(delayed.CallOf(Charge, 17))
	packed := flow.Add(delayed.CallOf(Reserve), delayed.AfterNodes(paid))
	bill := flow.Add(delayed.CallOf(Invoice, 1), delayed.AfterNodes(paid), delayed.Named("bill"))
	fee := flow.Add(delayed.CallOf(Invoice, 2), delayed.AfterNodes(paid), delayed.Named("fee"))
	flow.Add(delayed.CallOf(Total), delayed.AfterNodes(bill, fee), delayed.Named("total"))
	run, err := flow.Submit(ctx)
	check(err)
	state, err := run.Wait(ctx)
	check(err)
	fmt.Println(state) // → succeeded
	var said string
	check(run.Value(ctx, packed, &said))
	fmt.Println(said) // → order 17: charged, reserved
	var sum int
	check(run.Value(ctx, "total", &sum))
	fmt.Println(sum) // → 300
	found, err := run.Node(ctx, "bill")
	check(err)
	home, err := app.Queue("")
	check(err)
	check(home.Handle(found.ID).Result(ctx, &sum))
	fmt.Println(sum) // → 100
	for node, err := range run.Nodes(ctx, delayed.StateFailed) {
		check(err)
		fmt.Println(node.ID, node.Label, node.Queue)
	}

	// Output:
	// succeeded
	// order 17: charged, reserved
	// 300
	// 100
}

func ExampleFlow_Map() {
	ctx, app, stop := serving()
	defer stop()

	flow := app.Flow("import")
	pages := flow.Add(delayed.CallOf(Fetch, "a"))
	rows := flow.Map(delayed.CallOf(Parse, "de"), pages)
	flow.Add(delayed.CallOf(Store), delayed.AfterNodes(rows))
	run, err := flow.Submit(ctx)
	check(err)
	var stored []string
	check(run.Result(ctx, &stored))
	fmt.Println(stored) // → [a/1 in de a/2 in de]

	// Output:
	// [a/1 in de a/2 in de]
}

func ExamplePolicy() {
	ctx, app, stop := serving()
	defer stop()

	checks := delayed.GroupOf(delayed.CallOf(Check, 1), delayed.CallOf(Check, 2), delayed.CallOf(Check, 3))
	flow := app.Flow("all", delayed.OnFailure(delayed.PolicyContinue))
	report := flow.Add(checks.Then(delayed.CallOf(Report)))
	run, err := flow.Submit(ctx)
	check(err)
	state, err := run.Wait(ctx)
	check(err)
	var lines []string
	check(run.Value(ctx, report, &lines))
	fmt.Println(state, lines) // → failed [1 failed 3]

	flow = app.Flow("two of three")
	flow.Add(delayed.CallOf(Report), delayed.AfterNodes(flow.Add(checks)), delayed.When(delayed.Quorum(2)))
	run, err = flow.Submit(ctx)
	check(err)
	state, err = run.Wait(ctx)
	check(err)
	fmt.Println(state) // → succeeded

	run, err = app.SubmitFlow(ctx, checks, delayed.OnFailure(delayed.PolicyAny))
	check(err)
	state, err = run.Wait(ctx)
	check(err)
	fmt.Println(state) // → succeeded

	flow = app.Flow("mirrors")
	mirrors := flow.Add(delayed.GroupOf(delayed.CallOf(Check, 2), delayed.CallOf(Check, 3)))
	flow.Add(delayed.CallOf(Report), delayed.AfterNodes(mirrors), delayed.When(delayed.PolicyAny))
	bill := flow.Add(delayed.CallOf(Invoice, 1))
	all := flow.Add(delayed.CallOf(Report), delayed.AfterNodes(mirrors.When(delayed.PolicyContinue), bill))
	run, err = flow.Submit(ctx)
	check(err)
	state, err = run.Wait(ctx)
	check(err)
	check(run.Value(ctx, all, &lines))
	fmt.Println(state, lines) // → succeeded [failed 3 100]

	flow = app.Flow("all or nothing", delayed.OnFailure(delayed.PolicyStopNow))
	charged := flow.Add(delayed.CallOf(Charge, 5), delayed.AfterNodes(flow.Wait("approved", 0)))
	flow.Add(delayed.CallOf(Check, 2))
	run, err = flow.Submit(ctx)
	check(err)
	state, err = run.Wait(ctx)
	check(err)
	node, err := run.Node(ctx, charged)
	check(err)
	fmt.Println(state, node.State) // → failed cancelled

	flow = app.Flow("plan B")
	tried := flow.Add(delayed.CallOf(Check, 2))
	other := flow.Add(delayed.CallOf(Report), delayed.AfterNodes(tried), delayed.When(delayed.PolicyFailure))
	run, err = flow.Submit(ctx)
	check(err)
	state, err = run.Wait(ctx)
	check(err)
	check(run.Value(ctx, other, &lines))
	fmt.Println(state, lines) // → succeeded [failed]

	flow = app.Flow("one that the others need")
	charged = flow.Add(delayed.CallOf(Charge, 5), delayed.AfterNodes(flow.Wait("approved", 0)))
	needed := flow.Add(delayed.CallOf(Check, 2))
	flow.Add(delayed.CallOf(Report), delayed.AfterNodes(needed.When(delayed.PolicyStopNow)))
	run, err = flow.Submit(ctx)
	check(err)
	state, err = run.Wait(ctx)
	check(err)
	node, err = run.Node(ctx, charged)
	check(err)
	fmt.Println(state, node.State) // → failed cancelled

	// Output:
	// failed [1 failed 3]
	// succeeded
	// succeeded
	// succeeded [failed 3 100]
	// failed cancelled
	// succeeded [failed]
	// failed cancelled
}

func ExampleOnError() {
	ctx, app, stop := serving()
	defer stop()

	flow := app.Flow("audit", delayed.ThenComplete(delayed.CallOf(Count)))
	flow.Add(delayed.CallOf(Check, 2), delayed.OnError(delayed.CallOf(Apologize)))
	run, err := flow.Submit(ctx)
	check(err)
	state, err := run.Wait(ctx)
	check(err)
	var said string
	check(run.Value(ctx, 1, &said)) // the second node
	fmt.Println(state, said)        // → succeeded sorry: delayed: the task failed: errors.errorString: not two

	flow = app.Flow("two ends", delayed.ThenSuccess(delayed.CallOf(Count)), delayed.ThenFailure(delayed.CallOf(Count)))
	flow.Add(delayed.CallOf(Check, 1), delayed.OnSuccess(delayed.CallOf(Check, 3)))
	flow.Add(delayed.CallOf(Check, 2))
	run, err = flow.Submit(ctx)
	check(err)
	state, err = run.Wait(ctx)
	check(err)
	fmt.Println(state) // → failed

	sorry := delayed.Linked(delayed.CallOf(Check, 2), nil, []delayed.Part{delayed.CallOf(Apologize)})
	run, err = app.SubmitFlow(ctx, delayed.GroupOf(sorry, delayed.CallOf(Check, 3)))
	check(err)
	state, err = run.Wait(ctx)
	check(err)
	check(run.Value(ctx, 1, &said))
	fmt.Println(state, said) // → succeeded sorry: delayed: the task failed: errors.errorString: not two

	// Output:
	// succeeded sorry: delayed: the task failed: errors.errorString: not two
	// failed
	// succeeded sorry: delayed: the task failed: errors.errorString: not two
}

func ExampleFlow_Wait() {
	ctx, app, stop := serving()
	defer stop()

	flow := app.Flow("article")
	approved := flow.Wait("approved", 72*time.Hour, delayed.AfterNodes(flow.Add(delayed.CallOf(Charge, 3))))
	flow.Add(delayed.CallOf(Publish), delayed.AfterNodes(approved))
	run, err := flow.Submit(ctx)
	check(err)
	first, err := run.Signal(ctx, "approved", map[string]string{"by": "ada"})
	check(err)
	again, err := run.Signal(ctx, "approved", map[string]string{"by": "bob"})
	check(err)
	var said string
	check(run.Result(ctx, &said))
	fmt.Println(first, again, said) // → true false approved by ada

	flow = app.Flow("reminder")
	flow.Add(delayed.CallOf(Charge, 4), delayed.AfterNodes(flow.Wait("", 50*time.Millisecond)))
	run, err = flow.Submit(ctx)
	check(err)
	state, err := run.Wait(ctx)
	check(err)
	fmt.Println(state) // → succeeded

	// Output:
	// true false approved by ada
	// succeeded
}

func ExampleAddToFlow() {
	ctx, app, stop := serving()
	defer stop()

	flow := app.Flow("crawl")
	first := flow.Add(delayed.CallOf(Crawl, 1))
	crawled := flow.Add(delayed.CallOf(Crawled), delayed.AfterNodes(first))
	flow.Add(delayed.CallOf(Count), delayed.AfterNodes(first, crawled))
	run, err := flow.Submit(ctx)
	check(err)
	var nodes int
	check(run.Result(ctx, &nodes))
	fmt.Println(nodes) // → 8
	var pages []int
	check(run.Value(ctx, crawled, &pages))
	fmt.Println(pages) // → [1 2 3 4 5 6 7]

	// Output:
	// 8
	// [1 2 3 4 5 6 7]
}

func ExampleRun() {
	ctx, app, stop := serving()
	defer stop()

	run, err := app.SubmitFlow(ctx, delayed.ChainOf(delayed.CallOf(Check, 2), delayed.CallOf(Reserve)), delayed.FlowUnique("2026-11-27"))
	check(err)
	_, err = run.Wait(ctx)
	check(err)
	status, err := run.Status(ctx)
	check(err)
	fmt.Println(status.State, status.Failed, status.Skipped) // → failed 1 1
	left, err := run.Retry(ctx, delayed.RetryFailed)
	check(err)
	fmt.Println(left) // → 2
	_, err = app.SubmitFlow(ctx, delayed.CallOf(Check, 2), delayed.FlowUnique("2026-11-27"))
	var other *delayed.Duplicate
	fmt.Println(errors.As(err, &other) && other.ID == run.ID) // → true
	check(run.Cancel(ctx))
	_, err = run.Wait(ctx)
	check(err)

	// Output:
	// failed 1 1
	// 2
	// true
}

func ExampleRun_Retry() {
	ctx, app, stop := serving()
	defer stop()
	healthy.Store(false)

	flow := app.Flow("goes on", delayed.OnFailure(delayed.PolicyContinue))
	report := flow.Add(delayed.CallOf(Report), delayed.AfterNodes(flow.Add(delayed.CallOf(Flaky))))
	run, err := flow.Submit(ctx)
	check(err)
	_, err = run.Wait(ctx)
	check(err)
	var lines []string
	check(run.Value(ctx, report, &lines))
	fmt.Println(lines) // → [failed]
	healthy.Store(true)
	left, err := run.Retry(ctx, delayed.RetryDownstream)
	check(err)
	state, err := run.Wait(ctx)
	check(err)
	check(run.Value(ctx, report, &lines))
	fmt.Println(left, state, lines) // → 2 succeeded [succeeded]
	left, err = run.Retry(ctx, delayed.RetryAll)
	check(err)
	state, err = run.Wait(ctx)
	check(err)
	fmt.Println(left, state) // → 2 succeeded

	// Output:
	// [failed]
	// 2 succeeded [succeeded]
	// 2 succeeded
}

func ExampleQueue_RetryLetter() {
	ctx, app, stop := serving()
	defer stop()
	healthy.Store(false)

	run, err := app.SubmitFlow(ctx, delayed.ChainOf(delayed.CallOf(Flaky), delayed.CallOf(Reserve)))
	check(err)
	_, err = run.Wait(ctx)
	check(err)
	healthy.Store(true)
	failed, err := run.Node(ctx, 0)
	check(err)
	home, err := app.Queue("")
	check(err)
	for letter, err := range home.DeadLetters(ctx) {
		check(err)
		if letter.TaskID() == failed.ID {
			done, err := home.RetryLetter(ctx, letter)
			check(err)
			fmt.Println(done) // → true
		}
	}
	var said string
	check(run.Result(ctx, &said))
	fmt.Println(said) // → up, reserved

	// Output:
	// true
	// up, reserved
}

func ExampleFlowJoin() {
	ctx, app, stop := serving()
	defer stop()

	first, err := app.SubmitFlow(ctx, delayed.CallOf(Invoice, 1), delayed.FlowUnique("2026-11-28"), delayed.FlowKeep(time.Hour))
	check(err)
	same, err := app.SubmitFlow(ctx, delayed.CallOf(Invoice, 1), delayed.FlowUnique("2026-11-28"), delayed.FlowJoin())
	check(err)
	fmt.Println(same.ID == first.ID) // → true
	state, err := first.Wait(ctx)
	check(err)
	fmt.Println(state)       // → succeeded
	check(first.Forget(ctx)) // and the key is free
	other, err := app.SubmitFlow(ctx, delayed.CallOf(Invoice, 1), delayed.FlowUnique("2026-11-28"))
	check(err)
	fmt.Println(other.ID == first.ID) // → false

	// Output:
	// true
	// succeeded
	// false
}

func ExampleNewFlow() {
	ctx, app, stop := serving()
	defer stop()
	queue, err := app.Queue("")
	check(err)

	flow := delayed.NewFlow(queue, "thumbnails")
	sizes := flow.Add(delayed.GroupOf(delayed.NewGoTaskOf(Invoice, 1), delayed.On("python", delayed.NewPyTask("shop:scale", []any{30}, nil))))
	flow.Add(delayed.NewGoTaskOf(Total), delayed.AfterNodes(sizes))
	run, err := flow.Submit(ctx)
	check(err)
	same, err := queue.Run(run.ID) // elsewhere, by its id or that of one of its nodes
	check(err)
	check(same.Cancel(ctx)) // in this example no Python worker runs
	for run, err := range queue.Runs(ctx, true) {
		check(err)
		state, err := run.Wait(ctx)
		check(err)
		fmt.Println(state) // → cancelled
	}

	// Output:
	// cancelled
}
