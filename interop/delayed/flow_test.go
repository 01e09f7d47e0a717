package delayed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// flowWorker runs the functions of these tests until its queue is empty.
func flowWorker(t *testing.T, queue *Queue, options ...WorkerOption) *Worker {
	t.Helper()
	return flowWorkerOf(t, []*Queue{queue}, options...)
}

func flowWorkerOf(t *testing.T, queues []*Queue, options ...WorkerOption) *Worker {
	t.Helper()
	w, err := NewWorker(queues, append([]WorkerOption{NoSignals(), Concurrency(8), Burst()}, options...)...)
	must(t, err)
	w.carriers.slice = time.Minute // no sweeper is there for what is left
	for path, function := range map[string]any{
		"f.Number": func(n int) int { return n },
		"f.Fail": func(n int) (int, error) {
			if n == 2 {
				return 0, errors.New("not two")
			}
			return n, nil
		},
		"f.Sum": func(ctx context.Context) (sum int, err error) {
			for each, err := range Results[int](ctx) {
				if err != nil {
					return 0, err
				}
				sum += each
			}
			return sum, nil
		},
		"f.List":   func(n int) []int { return slices.Repeat([]int{1}, n) },
		"f.Double": func(n int) int { return 2 * n },
		"f.Scaled": func(n, by int) int { return n * by },
		"f.Add": func(ctx context.Context, plus int) (int, error) {
			var before int
			err := Previous(ctx, &before)
			return before + plus, err
		},
		"f.Seen": func(ctx context.Context) (seen []string, err error) {
			for input, err := range Inputs(ctx) {
				if err != nil {
					return nil, err
				}
				var value int
				if err := input.Value(&value); err != nil {
					seen = append(seen, string(input.State))
					continue
				}
				seen = append(seen, strconv.Itoa(value))
			}
			return seen, nil
		},
		"f.Text": func(ctx context.Context) (string, error) {
			var said any
			err := Previous(ctx, &said)
			return fmt.Sprint(said), err
		},
	} {
		must(t, w.RegisterAs(path, function))
	}
	return w
}

// runAll runs what there is, and what follows from that.
func runAll(t *testing.T, queues ...*Queue) {
	t.Helper()
	for waiting := 1; waiting > 0; {
		must(t, flowWorkerOf(t, queues).Run(context.Background()))
		waiting = 0
		for _, queue := range queues {
			must(t, tend(context.Background(), queue))
			n, err := queue.Len(context.Background())
			must(t, err)
			waiting += n
		}
	}
}

// beside is another queue of the same client.
func beside(t *testing.T, queue *Queue) *Queue {
	t.Helper()
	other, err := NewQueue(queue.Name()+"2", queue.store.Client)
	must(t, err)
	return other
}

func task(path string, args ...any) *GoTask { return NewGoTask(path, args...) }

// ended is how a workflow has ended, and what its last node returned.
func ended(t *testing.T, run *Run, into any) State {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	state, err := run.Wait(ctx)
	must(t, err)
	if into != nil {
		must(t, run.Result(ctx, into))
	}
	return state
}

func states(t *testing.T, run *Run) (found []State) {
	t.Helper()
	for node, err := range run.Nodes(context.Background(), "") {
		must(t, err)
		found = append(found, node.State)
	}
	return found
}

func TestAChainHandsOnItsResults(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	run, err := queue.SubmitFlow(ctx, ChainOf(task("f.Number", 1), task("f.Add", 10)).Then(task("f.Add", 100)))
	must(t, err)
	runAll(t, queue)
	sum := 0
	if state := ended(t, run, &sum); state != StateSucceeded || sum != 111 {
		t.Error(state, sum)
	}
}

func TestAGroupAndWhatComesAfterIt(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	other := beside(t, queue)
	members := []Part{task("f.Number", 1), On(other.Name(), task("f.Number", 2)), ChainOf(task("f.Number", 3), task("f.Add", 4))}
	run, err := queue.SubmitFlow(ctx, GroupOf(members...).Then(task("f.Sum")))
	must(t, err)
	runAll(t, queue, other)
	sum := 0
	if state := ended(t, run, &sum); state != StateSucceeded || sum != 10 {
		t.Error(state, sum)
	}
	status, err := run.Status(ctx)
	must(t, err)
	if status.Total != 5 || status.Succeeded != 5 || status.Left != 0 || status.Ended.Before(status.Created) {
		t.Error(status)
	}
	node, err := run.Node(ctx, 1)
	must(t, err)
	if node.Queue != other.Name() || node.Label != "f.Number" || node.State != StateSucceeded {
		t.Error(node)
	}
}

func TestAMapOverAListAndOverAGroup(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "map")
	rows := f.Map(task("f.Scaled", 5), f.Add(task("f.List", 3)), Named("rows"))
	again := f.Map(task("f.Double"), rows)
	f.Add(task("f.Sum"), AfterNodes(again))
	run, err := f.Submit(ctx)
	must(t, err)
	runAll(t, queue)
	sum := 0
	if state := ended(t, run, &sum); state != StateSucceeded || sum != 30 {
		t.Error(state, sum, states(t, run))
	}
	first := 0
	must(t, run.Value(ctx, rows, &first))
	if node, err := run.Node(ctx, "rows"); err != nil || first != 5 || node.Index < 4 {
		t.Error(node, first, err)
	}
}

func TestPolicies(t *testing.T) {
	ctx := context.Background()
	members := func() Part { return GroupOf(task("f.Fail", 1), task("f.Fail", 2), task("f.Fail", 3)) }
	for _, each := range []struct {
		whole, edge Policy
		state       State
		seen        string
	}{
		{PolicyStop, "", StateFailed, ""},
		{PolicyContinue, "", StateFailed, "[1 failed 3]"},
		{PolicyStop, PolicyContinue, StateFailed, "[1 failed 3]"},
		{PolicyStop, Quorum(2), StateSucceeded, "[1 failed 3]"},
		{PolicyStop, Quorum(3), StateFailed, ""},
		{PolicyStop, PolicyAny, StateSucceeded, "*"},
		{PolicyStop, PolicyFailure, StateSucceeded, "*"},
		{PolicyAny, "", StateSucceeded, "*"},
		{Quorum(2), "", StateSucceeded, "[1 failed 3]"},
		{Quorum(3), "", StateFailed, ""},
		{Quorum(9), "", StateFailed, ""},
	} {
		queue := newQueue(t)
		f := NewFlow(queue, "", OnFailure(each.whole))
		seen := f.Add(task("f.Seen"), AfterNodes(f.Add(members())), When(each.edge))
		run, err := f.Submit(ctx)
		must(t, err)
		must(t, flowWorker(t, queue, Concurrency(1)).Run(ctx)) // so that they end in their order
		var said []string
		state := ended(t, run, nil)
		err = run.Value(ctx, seen, &said)
		if state != each.state || (err == nil) != (each.seen != "") || each.seen != "*" && each.seen != "" && fmt.Sprint(said) != each.seen {
			t.Error(each, state, said, err)
		}
	}
}

func TestAWorkflowWithAQuorumSucceedsIfEnoughOfItsLastNodesDo(t *testing.T) {
	ctx := context.Background()
	for _, each := range []struct {
		policy Policy
		second int // at which f.Fail fails, if it is 2
		state  State
	}{
		{PolicyAny, 2, StateSucceeded}, {Quorum(2), 2, StateFailed}, {Quorum(2), 3, StateSucceeded}, {Quorum(9), 1, StateFailed},
	} {
		queue := newQueue(t)
		f := NewFlow(queue, "", OnFailure(each.policy))
		f.Add(GroupOf(task("f.Fail", 1), task("f.Fail", 2), task("f.Fail", each.second)))
		run, err := f.Submit(ctx)
		must(t, err)
		runAll(t, queue)
		if state := ended(t, run, nil); state != each.state {
			t.Error(each, state)
		}
		if each.state == StateSucceeded {
			continue
		}
		_, err = run.Retry(ctx, RetryFailed) // the counts are those from which the same follows
		must(t, err)
		runAll(t, queue)
		if state := ended(t, run, nil); state != each.state {
			t.Error(each, state, "after a retry")
		}
	}
}

func TestStopNowCancelsWhatRunsBeside(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "", OnFailure(PolicyStopNow))
	bad := f.Add(task("f.Fail", 2))
	f.Add(task("f.Number", 1), AfterNodes(f.Wait("never", 0)))
	f.Add(task("f.Number", 1), AfterNodes(bad))
	run, err := f.Submit(ctx)
	must(t, err)
	runAll(t, queue)
	if state, found := ended(t, run, nil), fmt.Sprint(states(t, run)); state != StateFailed || found != "[failed cancelled cancelled skipped]" {
		t.Error(state, found)
	}
}

func TestCallbacksAreEnqueuedOnce(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "audit", ThenComplete(task("f.Number", 1)), ThenSuccess(task("f.Number", 2)), ThenFailure(task("f.Number", 3)))
	bad := f.Add(task("f.Fail", 2), OnError(task("f.Seen")), OnSuccess(task("f.Number", 9)))
	run, err := f.Submit(ctx)
	must(t, err)
	runAll(t, queue)
	if state := ended(t, run, nil); state != StateSucceeded {
		t.Error(state)
	}
	found := fmt.Sprint(states(t, run)) // the failed one, what comes after its success, after its failure; callbacks: success, complete, failure
	if found != "[failed skipped succeeded succeeded succeeded waiting]" {
		t.Error(found)
	}
	var failed *TaskFailed
	if err := run.Value(ctx, bad, nil); !errors.As(err, &failed) || failed.Message != "not two" {
		t.Error(err)
	}
}

func TestSignalsAndTimers(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "article")
	f.Add(task("f.Text"), AfterNodes(f.Wait("approved", time.Hour, AfterNodes(f.Add(task("f.Number", 3))))))
	run, err := f.Submit(ctx)
	must(t, err)
	for i, want := range []bool{true, false} { // the first one counts, though it comes early
		first, err := run.Signal(ctx, "approved", map[string]any{"by": i})
		must(t, err)
		if first != want {
			t.Error(i, first)
		}
	}
	runAll(t, queue)
	said := ""
	if state := ended(t, run, &said); state != StateSucceeded || said != "map[by:0]" {
		t.Error(state, said)
	}

	late := NewFlow(queue, "late")
	late.Add(task("f.Number", 1), AfterNodes(late.Wait("never", time.Millisecond)))
	paused := NewFlow(queue, "pause")
	paused.Add(task("f.Number", 1), AfterNodes(paused.Wait("", time.Millisecond)))
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
	must(t, err)
	for f, want := range map[*Flow]State{late: StateFailed, paused: StateSucceeded} {
		run, err := f.Submit(ctx)
		must(t, err)
		for status := (FlowStatus{State: StateRunning}); status.State == StateRunning; status, err = run.Status(ctx) {
			must(t, err)
			must(t, sweeper.Sweep(ctx))
			runAll(t, queue)
		}
		if state := ended(t, run, nil); state != want {
			t.Error(f.name, state)
		}
	}
}

func TestCancelAndRetryOfAWorkflow(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	run, err := queue.SubmitFlow(ctx, ChainOf(GroupOf(task("f.Fail", 1), task("f.Fail", 2)), task("f.Sum")))
	must(t, err)
	if _, err := run.Retry(ctx, RetryFailed); !errors.Is(err, ErrInvalidTask) {
		t.Error(err)
	}
	must(t, run.Cancel(ctx))
	if state, found := ended(t, run, nil), fmt.Sprint(states(t, run)); state != StateCancelled || found != "[cancelled cancelled cancelled]" {
		t.Error(state, found)
	}
	if err := run.Result(ctx, nil); !errors.Is(err, ErrTaskCancelled) {
		t.Error(err)
	}
	left, err := run.Retry(ctx, RetryFailed)
	must(t, err)
	if n, err := queue.Len(ctx); left != 3 || n != 2 || err != nil { // each is there once
		t.Error(left, n, err)
	}
	runAll(t, queue)
	if state, found := ended(t, run, nil), fmt.Sprint(states(t, run)); state != StateFailed || found != "[succeeded failed skipped]" {
		t.Error(state, found)
	}
	if left, err = run.Retry(ctx, RetryFailed); left != 2 || err != nil {
		t.Error(left, err)
	}
	w := flowWorker(t, queue)
	delete(w.handlers, "f.Fail")
	must(t, w.RegisterAs("f.Fail", func(n int) int { return n }))
	must(t, w.Run(ctx))
	sum := 0
	if state := ended(t, run, &sum); state != StateSucceeded || sum != 3 {
		t.Error(state, sum)
	}
	if _, err := run.Retry(ctx, RetryDownstream); !errors.Is(err, ErrInvalidTask) {
		t.Error(err)
	}
	if left, err = run.Retry(ctx, RetryAll); left != 3 || err != nil {
		t.Error(left, err)
	}
	must(t, flowWorker(t, queue).Run(ctx))
	if state := ended(t, run, nil); state != StateFailed {
		t.Error(state)
	}
	for _, err := range queue.DeadLetters(ctx) { // one, of the newest attempt
		must(t, err)
		left--
	}
	if left != 2 {
		t.Error(3 - left)
	}
}

func TestAWorkflowIsCreatedOnce(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	submit := func(options ...FlowOption) (*Run, error) {
		return queue.SubmitFlow(ctx, task("f.Number", 1), append(options, FlowUnique("report"))...)
	}
	first, err := submit(FlowKeep(time.Second))
	must(t, err)
	same, err := submit(FlowJoin())
	must(t, err)
	var duplicate *Duplicate
	if _, err := submit(); !errors.As(err, &duplicate) || duplicate.ID != first.ID || same.ID != first.ID {
		t.Error(err, same.ID, first.ID)
	}
	count := 0
	for run, err := range queue.Runs(ctx, true) {
		must(t, err)
		if count++; run.ID != first.ID {
			t.Error(run.ID)
		}
	}
	if count != 1 {
		t.Error(count)
	}
	runAll(t, queue)
	for _, err := range queue.Runs(ctx, false) { // it has ended
		t.Error("it goes on", err)
	}
	if again, err := queue.Run(rdb.NodeID(first.flow, 0)); err != nil || again.ID != first.ID {
		t.Error(again, err)
	}
	unknown, err := queue.Run(NewID())
	must(t, err)
	if _, err := unknown.Status(ctx); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
}

func TestWhatIsNoWorkflowIsRefused(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	deep := Part(task("f.Number", 1))
	for range 17 {
		deep = ChainOf(deep)
	}
	other := NewFlow(queue, "").Add(task("f.Number", 1))
	for name, build := range map[string]func(f *Flow){
		"too deep":         func(f *Flow) { f.Add(deep) },
		"no part":          func(f *Flow) { f.Add(nil) },
		"a chain of none":  func(f *Flow) { f.Add(ChainOf()) },
		"after a time":     func(f *Flow) { f.Add(task("f.Number", 1).With(After(time.Hour))) },
		"a wrong path":     func(f *Flow) { f.Add(NewPyTask("nocolon", nil, nil)) },
		"a Call":           func(f *Flow) { f.Add(Call{Function: "f.Number"}) },
		"another's Ref":    func(f *Flow) { f.Add(task("f.Number", 1), AfterNodes(other)) },
		"no quorum":        func(f *Flow) { f.Add(task("f.Number", 1), AfterNodes(f.Add(task("f.Number", 2))), When(Quorum(0))) },
		"no policy":        func(f *Flow) { f.Add(task("f.Number", 1), AfterNodes(f.Add(task("f.Number", 2))), When("maybe")) },
		"a map of a group": func(f *Flow) { f.Map(GroupOf(), f.Add(task("f.List", 2))) },
		"for ever":         func(f *Flow) { f.Wait("", 0) },
		"two words":        func(f *Flow) { f.Wait("a b", 0) },
		"not encodable":    func(f *Flow) { f.Add(task("f.Number", func() {})) },
	} {
		f := NewFlow(queue, name)
		build(f)
		f.Add(task("f.Number", 1)) // the first fault counts
		if run, err := f.Submit(ctx); !errors.Is(err, ErrInvalidTask) {
			t.Error(name, run, err)
		}
	}
	if _, err := NewFlow(queue, "", OnFailure(PolicyFailure)).Submit(ctx); !errors.Is(err, ErrInvalidTask) {
		t.Error(err)
	}
	f := NewFlow(queue, "twice")
	f.Add(task("f.Number", 1))
	_, err := f.Submit(ctx)
	must(t, err)
	if _, err := f.Submit(ctx); !errors.Is(err, ErrConfiguration) {
		t.Error(err)
	}
	if n, err := queue.Len(ctx); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func TestTheHandleOfANodeSaysWhatItsWorkflowKnows(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "")
	first := f.Add(GroupOf(task("f.Number", 1), task("f.Number", 2), task("f.Number", 3)))
	f.Add(task("f.Number", 4), AfterNodes(f.Wait("never", 0, AfterNodes(first))))
	f.Add(GroupOf(task("f.Number", 5), task("f.Number", 6)), AfterNodes(first))
	run, err := f.Submit(ctx)
	must(t, err)
	handle := func(index int64) *Handle { return queue.Handle(rdb.NodeID(run.flow, index)) }
	for index := range int64(7) {
		status, err := handle(index).Status(ctx)
		if err != nil || status.State != StateQueued || (status.Waits != "") != (index > 2) {
			t.Error(index, status, err)
		}
	}
	if _, err := handle(5).Cancel(ctx); !errors.Is(err, ErrInvalidTask) {
		t.Error(err)
	}
	if state, err := handle(1).Cancel(ctx); err != nil || state != StateQueued {
		t.Error(state, err)
	}
	if state, err := handle(4).Cancel(ctx); err != nil || state != StateCancelled { // it has been skipped by then
		t.Error(state, err)
	}
	if status, err := handle(4).Status(ctx); err != nil || status.Error == "" {
		t.Error(status, err)
	}
	runAll(t, queue)
	found := fmt.Sprint(states(t, run))
	if state := ended(t, run, nil); state != StateFailed || found != "[succeeded cancelled succeeded skipped skipped skipped skipped]" {
		t.Error(state, found)
	}
	for _, unknown := range []string{rdb.NodeID(run.flow, 99), NewID()} {
		if _, err := queue.Handle(unknown).Status(ctx); !errors.Is(err, ErrUnknownTask) {
			t.Error(err)
		}
		if _, err := queue.Handle(unknown).Cancel(ctx); !errors.Is(err, ErrUnknownTask) {
			t.Error(err)
		}
	}
}

func TestNodesWithGroupsAndUniqueKeys(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	one := func() Part { return task("f.Number", 1).With(Unique("k", UntilDone, time.Hour)) }
	f := NewFlow(queue, "", OnFailure(PolicyContinue))
	keyed := f.Add(GroupOf(one(), one(), task("f.Number", 5).With(Group("acme"))))
	f.Add(task("f.Seen"), AfterNodes(keyed), Named("seen"))
	run, err := f.Submit(ctx)
	must(t, err)
	runAll(t, queue)
	var seen []string
	if state := ended(t, run, nil); state != StateFailed {
		t.Error(state)
	}
	must(t, run.Value(ctx, "seen", &seen))
	if fmt.Sprint(seen) != "[1 failed 5]" {
		t.Error(seen)
	}
	var failed *TaskFailed
	if err := run.Value(ctx, 1, nil); !errors.As(err, &failed) || failed.Kind != "duplicate" {
		t.Error(err)
	}
	if _, err := run.Retry(ctx, RetryFailed); err != nil {
		t.Error(err)
	}
	runAll(t, queue)
	if state := ended(t, run, nil); state != StateSucceeded {
		t.Error(state, states(t, run))
	}
}

func TestAMapOverNothingAndOverWhatIsNoList(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "")
	empty := f.Map(task("f.Double"), f.Add(task("f.List", 0)))
	none := f.Map(task("f.Double"), f.Add(task("f.Number", 7)), Named("no list"))
	f.Add(task("f.Sum"), AfterNodes(empty), Named("sum"))
	f.Add(task("f.Sum"), AfterNodes(none), Named("never"))
	run, err := f.Submit(ctx)
	must(t, err)
	runAll(t, queue)
	sum := 99
	state := ended(t, run, nil)
	must(t, run.Value(ctx, "sum", &sum))
	node, err := run.Node(ctx, "never")
	must(t, err)
	if state != StateFailed || sum != 0 || node.State != StateSkipped {
		t.Error(state, sum, node)
	}
	if _, err := run.Node(ctx, empty); !errors.Is(err, ErrUnknownTask) { // it has no nodes
		t.Error(err)
	}
	var failed *TaskFailed
	if err := run.Value(ctx, none, nil); !errors.As(err, &failed) || failed.Kind != "map" {
		t.Error(err)
	}
	if err := run.Value(ctx, 3.5, nil); !errors.Is(err, ErrConfiguration) {
		t.Error(err)
	}
}
