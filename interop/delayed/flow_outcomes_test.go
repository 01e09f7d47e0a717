package delayed

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// memberEnd is a way in which a member of a workflow ends: the member, and what ends it.
type memberEnd struct {
	name string
	add  func(f *Flow) Ref
	end  func(t *testing.T, queue *Queue, member string)
}

func adds(task Task) func(f *Flow) Ref { return func(f *Flow) Ref { return f.Add(task.(Part)) } } //nolint:forcetypeassert // all are

var policies = []struct{ whole, edges Policy }{
	{PolicyStop, ""}, {PolicyStopNow, ""}, {PolicyContinue, ""}, {PolicyStop, PolicyAny}, {PolicyStop, Quorum(3)}, {PolicyStop, PolicyFailure},
}

// workAll runs what waits in the queue of the member, and tells begun when "f.Until" has begun.
func workAll(t *testing.T, queue *Queue, begun func()) {
	t.Helper()
	w := flowWorker(t, queue, UnreadyFor(0))
	must(t, w.RegisterAs("f.Sleep", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }))
	must(t, w.RegisterAs("f.Until", func(ctx context.Context) error {
		begun()
		for ticks := time.NewTicker(10 * time.Millisecond); ; <-ticks.C {
			if err := CurrentTask(ctx).CheckCancelled(ctx); err != nil {
				return err
			}
		}
	}))
	must(t, w.Run(context.Background()))
}

func works(t *testing.T, queue *Queue, _ string) {
	t.Helper()
	workAll(t, queue, nil)
}

// outcomes are those of docs/workflows.md.
var outcomes = []memberEnd{
	{"succeeds", adds(task("f.Number", 1)), works},
	{"raises, and no retry is left", adds(task("f.Fail", 2)), works},
	{"fails, and its dead letter is purged", adds(task("f.Fail", 2)), func(t *testing.T, queue *Queue, _ string) {
		workAll(t, queue, nil)
		for letter, err := range queue.DeadLetters(ctx) {
			must(t, err)
			_, err = queue.PurgeLetters(ctx, letter)
			must(t, err)
		}
	}},
	{"is lost too often", adds(task("f.Number", 1)), func(t *testing.T, queue *Queue, _ string) {
		sweeper := newSweeper(t, queue)
		lose(t, queue, func() { must(t, sweeper.Sweep(ctx)) })
	}},
	{"expires", adds(NewGoTask("f.Number", 1).With(ExpiresAt(time.Unix(1, 0)))), works},
	{"runs for longer than its timeout", adds(NewGoTask("f.Sleep").With(Timeout(20 * time.Millisecond))), works},
	{"is cancelled before it begins", adds(task("f.Number", 1)), func(t *testing.T, queue *Queue, member string) {
		_, err := queue.Handle(member).Cancel(ctx)
		must(t, err)
		workAll(t, queue, nil)
	}},
	{"is cancelled while it runs", adds(task("f.Until")), func(t *testing.T, queue *Queue, member string) {
		workAll(t, queue, func() {
			_, err := queue.Handle(member).Cancel(ctx)
			must(t, err)
		})
	}},
	{"is removed by a purge of its queue", adds(task("f.Number", 1)), func(t *testing.T, queue *Queue, _ string) {
		key := queue.store.Keys.Queue
		result, err := packResult(string(StateCancelled))
		must(t, err)
		for _, data := range queue.store.Client.LRange(ctx, key, 0, -1).Val() {
			must(t, queue.store.RemoveWaiting(ctx, key, result, []byte(data)))
		}
	}},
	{"has a function that nobody knows", adds(task("f.Nope")), works},
	{"has the language of another worker", adds(NewPyTask("tasks:noop", nil, nil)), works},
	{"cannot be decoded", adds(task("f.Number", "no number")), works},
	{"has a unique key that another task has", func(f *Flow) Ref {
		task := NewGoTask("f.Number", 1).With(Unique("one", UntilDone, time.Hour))
		if _, err := f.home.Submit(ctx, task); err != nil {
			panic(err)
		}
		return f.Add(task)
	}, works},
	{"is a map over what is no list", func(f *Flow) Ref { return f.Map(task("f.Double"), f.Add(task("f.Number", 1))) }, works},
	{"is a wait whose time is over without its signal", func(f *Flow) Ref { return f.Wait("approved", time.Hour) },
		func(t *testing.T, queue *Queue, _ string) {
			due := queue.store.Keys.FlowDue
			for _, name := range queue.store.Client.ZRange(ctx, due, 0, -1).Val() {
				must(t, queue.store.Client.Do(ctx, "ZADD", due, 0, name).Err())
			}
		}},
}

// finishing runs what waits in the other queue, and what that releases, until the workflow and its callbacks have ended. It returns the words
// of the tasks that ran.
func finishing(t *testing.T, queue, other *Queue) (ran []string) {
	t.Helper()
	var mu sync.Mutex
	for waiting := int64(1); waiting > 0; {
		must(t, tend(ctx, queue))
		must(t, tend(ctx, other))
		w := flowWorker(t, other)
		must(t, w.RegisterAs("f.Note", func(word string) {
			mu.Lock()
			defer mu.Unlock()
			ran = append(ran, word)
		}))
		must(t, w.Run(ctx))
		must(t, tend(ctx, queue))
		waiting = queue.store.Client.LLen(ctx, other.store.Keys.Queue).Val()
	}
	return ran
}

// trial is how the member has ended, and the others, what comes after all three, the workflow, and which callbacks ran.
func trial(t *testing.T, o memberEnd, whole, edges Policy) (member State, cell string) {
	t.Helper()
	queue := newQueue(t)
	other := beside(t, queue)
	note := func(word string) Part { return On(other.Name(), task("f.Note", word)) }
	f := NewFlow(queue, "", OnFailure(whole), ThenSuccess(note("S")), ThenComplete(note("C")), ThenFailure(note("F")))
	first := o.add(f)
	others := []Ref{f.Add(note("")), f.Add(note(""))}
	after := f.Add(note(""), AfterNodes(first, others[0], others[1]), When(edges))
	run, err := f.Submit(ctx)
	must(t, err)
	state := func(ref Ref) State {
		node, err := run.Node(ctx, ref)
		must(t, err)
		return node.State
	}
	node, err := run.Node(ctx, first)
	must(t, err)
	o.end(t, queue, node.ID)
	ran := finishing(t, queue, other)
	status, err := run.Status(ctx)
	must(t, err)
	if state(others[0]) != state(others[1]) || status.Left != 0 || status.Ended.IsZero() {
		t.Error(state(others[0]), state(others[1]), status)
	}
	called := ""
	for _, word := range []string{"S", "C", "F"} {
		called += strings.Repeat(word, strings.Count(strings.Join(ran, ""), word))
	}
	return state(first), fmt.Sprintf("%s, %s → **%s** %s", state(others[0]), state(after), status.State, called)
}

// What Go's workers and sweepers do stands in the table that tests/redis/workflow/test_outcomes.py writes of Python's.
func TestEachOutcomeUnderEachPolicyIsAsTheDocumentSays(t *testing.T) {
	page, err := os.ReadFile("../../docs/workflows.md")
	must(t, err)
	_, table, _ := strings.Cut(string(page), "<!-- outcomes -->\n")
	table, _, _ = strings.Cut(table, "<!-- end of outcomes -->")
	if lines := strings.Count(table, "\n"); lines != len(outcomes)+2 {
		t.Errorf("the table has %d lines", lines)
	}
	for _, o := range outcomes {
		t.Run(o.name, func(t *testing.T) {
			line := "| " + o.name + " |"
			for i, each := range policies {
				member, cell := trial(t, o, each.whole, each.edges)
				if i == 0 {
					line += " " + string(member) + " |"
				}
				line += " " + cell + " |"
				if each.edges == PolicyAny || each.edges == Quorum(3) { // the same, as the policy of the workflow
					if _, whole := trial(t, o, each.edges, ""); whole != cell {
						t.Error(each.edges, whole)
					}
				}
			}
			if !strings.Contains(table, line+"\n") {
				t.Error(line)
			}
		})
	}
}
