package delayed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"

	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const (
	keepFlow   = 24 * time.Hour // that a workflow is kept after its end
	longest    = 1e9 * time.Second
	carryFirst = 5 * time.Second // that Submit carries a workflow on which it has stored
)

var errNoPart = fmt.Errorf("%w: a workflow is made of tasks, calls, chains and groups", ErrInvalidTask)

// Policy says what happens behind a node that has not succeeded.
type Policy string

// The policies of workflows and edges; PolicyFailure is one of edges alone. Quorum is another one.
const (
	PolicyStop     Policy = "stop"     // what comes after it is skipped
	PolicyStopNow  Policy = "stop_now" // likewise, and what runs beside it is cancelled
	PolicyContinue Policy = "continue" // what comes after it runs when all before it have ended, and can see how
	PolicyAny      Policy = "any"      // it runs as soon as one before it has succeeded; of a workflow: and one of the last ones will do
	PolicyFailure  Policy = "failure"  // it runs if one before it has failed, and is skipped if none has
)

// Quorum is the policy that needs so many successes among the nodes before. Of a workflow: or those of all, where they are fewer, and so
// many among the last ones.
func Quorum(need int) Policy { return Policy(flow.Quorum(need)) }

// FlowOption changes a workflow: see NewFlow.
type FlowOption func(*flowOptions)

type flowOptions struct {
	policy                     Policy
	unique, home               *string
	join                       bool
	keep                       time.Duration
	success, complete, failure []Part
}

// OnFailure says what happens behind nodes that have not succeeded: PolicyStop (the default), PolicyStopNow, PolicyContinue, PolicyAny or
// a Quorum.
func OnFailure(policy Policy) FlowOption { return func(o *flowOptions) { o.policy = policy } }

// FlowUnique gives a workflow a key. While a workflow with it is known, Submit of a second one is refused (*Duplicate).
func FlowUnique(key string) FlowOption { return func(o *flowOptions) { o.unique = &key } }

// FlowJoin makes that a second workflow with the same unique key is not refused: Submit returns the first.
func FlowJoin() FlowOption { return func(o *flowOptions) { o.join = true } }

// FlowKeep says how long a workflow is kept after its end: a day by default.
func FlowKeep(d time.Duration) FlowOption { return func(o *flowOptions) { o.keep = d } }

// FlowHome names the queue of an App that has the workflow's keys.
func FlowHome(queue string) FlowOption { return func(o *flowOptions) { o.home = &queue } }

// ThenSuccess are tasks that are enqueued when the workflow has succeeded: all in one queue.
func ThenSuccess(parts ...Part) FlowOption { return func(o *flowOptions) { o.success = parts } }

// ThenComplete are tasks that are enqueued when the workflow has ended, however.
func ThenComplete(parts ...Part) FlowOption { return func(o *flowOptions) { o.complete = parts } }

// ThenFailure are tasks that are enqueued at the first failure that nothing provides for, while the rest may still run.
func ThenFailure(parts ...Part) FlowOption { return func(o *flowOptions) { o.failure = parts } }

// NodeOption says how a part belongs to its workflow: see Flow.Add.
type NodeOption func(*nodeOptions)

type nodeOptions struct {
	after              []Ref
	policy             Policy
	name               string
	onSuccess, onError []Part
}

// AfterNodes are the nodes that a part waits for, and finds the results of.
func AfterNodes(refs ...Ref) NodeOption {
	return func(o *nodeOptions) { o.after = append(o.after, refs...) }
}

// When is the policy of these edges, if it is not that of the workflow.
func When(policy Policy) NodeOption { return func(o *nodeOptions) { o.policy = policy } }

// Named is what people call a node; by default it is its function.
func Named(name string) NodeOption { return func(o *nodeOptions) { o.name = name } }

// OnSuccess are parts that run after a node has succeeded.
func OnSuccess(parts ...Part) NodeOption { return func(o *nodeOptions) { o.onSuccess = parts } }

// OnError are parts that run after a node has failed for good, which then does not make the workflow fail.
func OnError(parts ...Part) NodeOption { return func(o *nodeOptions) { o.onError = parts } }

// Ref are nodes of a workflow that is being put together.
type Ref struct {
	ref  flow.Ref
	flow *Flow
}

// When is the same, with a policy of its own for the edges that come from it.
func (r Ref) When(policy Policy) Ref {
	r.ref.Policy = string(policy)
	return r
}

// Flow is a workflow that is being put together, by one goroutine. What is wrong with it Submit says.
type Flow struct {
	home      *Queue
	app       *App
	name      string
	options   flowOptions
	graph     *flow.Graph
	err       error              // the first thing that was wrong
	asked     map[string]appTask // what calls of an App ask for
	trace     Trace              // in which it is submitted
	inherited map[string]string  // metadata
	checked   *taskOptions
	submitted bool
}

// NewFlow makes a workflow whose keys one queue has, its home. name is what people call it.
func NewFlow(home *Queue, name string, options ...FlowOption) *Flow {
	return newFlow(home, name, flow.Base{}, options)
}

func newFlow(home *Queue, name string, base flow.Base, options []FlowOption) *Flow {
	f := &Flow{home: home, name: name, options: flowOptions{policy: PolicyStop, keep: keepFlow}, asked: map[string]appTask{}}
	for _, option := range options {
		option(&f.options)
	}
	if f.options.keep < time.Second || f.options.keep > longest {
		f.fail(fmt.Errorf("%w: FlowKeep is at least a second, not %s", ErrInvalidTask, f.options.keep))
	}
	graph, err := flow.NewGraph(string(f.options.policy), base)
	f.fail(err)
	f.graph = graph
	return f
}

func (f *Flow) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *Flow) optionsOf(options []NodeOption) (o nodeOptions, after []flow.Ref) {
	for _, option := range options {
		option(&o)
	}
	for _, ref := range o.after {
		if ref.flow != f {
			f.fail(fmt.Errorf("%w: AfterNodes and Map take what Add, Map or Wait of the same workflow has returned", ErrInvalidTask))
			continue
		}
		after = append(after, ref.ref)
	}
	return o, after
}

// made is what Add returns.
func (f *Flow) made(ref flow.Ref, err error) Ref {
	f.fail(err)
	return Ref{ref, f}
}

// Add adds a task, a chain or a group: beside what there is, or AfterNodes.
func (f *Flow) Add(part Part, options ...NodeOption) Ref {
	o, after := f.optionsOf(options)
	if f.err != nil {
		return Ref{flow: f}
	}
	if len(o.onSuccess)+len(o.onError) > 0 {
		part = Linked(part, o.onSuccess, o.onError)
	}
	return f.made(f.lay(part, after, string(o.policy), o.name, "", 0))
}

// Map calls a task with each element of a result, as its first argument: with those of a list, or with the results of a group. How many
// these are is known when it is there. What the task has are the further arguments. Of the options, When and Named count.
func (f *Flow) Map(part Part, over Ref, options ...NodeOption) Ref {
	o, after := f.optionsOf(append(options, func(o *nodeOptions) { o.after = []Ref{over} }))
	if f.err != nil {
		return Ref{flow: f}
	}
	n, queue, err := f.leaf(part, "", true)
	if err == nil && n == nil {
		err = fmt.Errorf("%w: Map takes one task, not a group or a chain", ErrInvalidTask)
	}
	if err != nil {
		return f.made(flow.Ref{}, err)
	}
	b := f.graph.AddMap(n, queue, o.name)
	return f.made(flow.Ref{Blocks: []*flow.Block{b}}, f.graph.Connect(b, after, string(o.policy)))
}

// Wait adds a node that ends when a signal comes, also one that has come before, or when a time is over, if that is above 0: then it has
// failed, unless the signal is "", and it only waits for that time. Of the options AfterNodes counts.
func (f *Flow) Wait(signal string, timeout time.Duration, options ...NodeOption) Ref {
	o, after := f.optionsOf(options)
	label := "wait for " + signal
	switch {
	case timeout < 0 || timeout > longest || timeout > 0 && timeout < time.Millisecond:
		f.fail(fmt.Errorf("%w: the time of a Wait is at least a millisecond, or 0 for none, not %s", ErrInvalidTask, timeout))
	case signal == "" && timeout == 0:
		f.fail(fmt.Errorf("%w: Wait needs the name of a signal, or a time", ErrInvalidTask))
	case strings.ContainsFunc(signal, unicode.IsSpace):
		f.fail(fmt.Errorf("%w: the name of a signal is a word, not %q", ErrInvalidTask, signal))
	case signal == "":
		label = fmt.Sprintf("wait for %g s", timeout.Seconds())
	}
	if f.err != nil {
		return Ref{flow: f}
	}
	b := f.graph.AddWait(signal, rdb.Rounded(timeout), f.home.Name(), cmp.Or(o.name, label))
	return f.made(flow.Ref{Blocks: []*flow.Block{b}}, f.graph.Connect(b, after, ""))
}

// Submit stores the workflow, and starts it. Up to 1,000 nodes go in at once; more in pages, of which the last one starts it: if this
// process is killed before, nothing of it runs, and a sweeper removes it. The errors are those of Queue.Submit, and the first thing that
// was wrong with what was added.
func (f *Flow) Submit(ctx context.Context) (*Run, error) {
	if f.submitted {
		f.fail(fmt.Errorf("%w: a workflow is submitted once: put another one together", ErrConfiguration))
	}
	if f.submitted = true; f.err != nil {
		return nil, f.err
	}
	if parent := CurrentTask(ctx); parent != nil {
		f.inherited = parent.Metadata
	}
	about, err := f.draw()
	if err != nil {
		return nil, err
	}
	if f.home.around == nil {
		return f.store(ctx, about)
	}
	var run *Run
	err = f.home.within(ctx, &Sending{Queue: f.home.Name()}, func(ctx context.Context, s *Sending) (err error) {
		f.trace = s.Trace
		if run, err = f.store(ctx, about); err == nil {
			_, _, nodes := f.graph.Sizes()
			s.Workflow, s.Count = run.ID, int(nodes)
		}
		return err
	})
	return run, err
}

// draw gives all nodes their numbers. It returns what is stored of the whole: names and values.
func (f *Flow) draw() (about []string, err error) {
	about = []string{"name", f.name, "policy", string(f.options.policy), "keep", rdb.Milliseconds(f.options.keep)}
	ends := f.graph.Ends()
	if err := f.graph.Close(ends); err != nil {
		return nil, err
	}
	for _, each := range []struct {
		event string
		parts []Part
	}{{"success", f.options.success}, {"complete", f.options.complete}, {"failure", f.options.failure}} {
		if len(each.parts) == 0 {
			continue
		}
		b, err := f.callBack(each.parts)
		if err != nil {
			return nil, err
		}
		about = append(about, "on_"+each.event, rdb.Decimal(b.Number))
	}
	f.graph.Number()
	if len(ends) == 1 && ends[0].Size == 1 && !ends[0].Many {
		about = append(about, "out", rdb.Decimal(ends[0].First))
	}
	return about, nil
}

// layout is that of the workflow with this id; about is what is stored of the whole: names and values.
func (f *Flow) layout(id string, about []string) (*flow.Layout, []string) {
	l := flow.NewLayout(f.graph, f.home.Name(), id, nil)
	if f.options.unique != nil {
		l.Unique = flow.DigestOf(*f.options.unique)
		about = append(about, "unique", l.Unique)
	}
	return l, about
}

func (f *Flow) store(ctx context.Context, about []string) (*Run, error) {
	id := strings.ReplaceAll(rdb.Token()[:rdb.FlowSize], "_", "A")
	run := &Run{ID: rdb.NodeID(id, -1), queue: f.home, flow: id}
	carrier := f.home.carrier()
	l, about := f.layout(id, about)
	err := carrier.Store(ctx, l, about)
	var known *flow.Known
	switch found := errors.As(err, &known); {
	case found && f.options.join:
		run.ID, run.flow = known.ID, known.ID[:rdb.FlowSize]
	case found:
		return nil, &Duplicate{f.home.Name(), known.ID}
	case err != nil:
		return nil, fmt.Errorf("delayed: submitting workflow %s: %w", run.ID, err)
	}
	if _, err := carrier.Carry(ctx, run.flow, time.Now().Add(carryFirst)); err != nil { // it is there, and others carry it on
		slog.Debug("delayed: a workflow waits for a worker or a sweeper to carry it on", "flow", run.ID, "error", err)
	}
	return run, nil
}

func (f *Flow) callBack(parts []Part) (*flow.Block, error) {
	var tasks []flow.Task
	place := ""
	for i, part := range parts {
		n, queue, err := f.leaf(part, "", false)
		if err != nil {
			return nil, err
		}
		if n == nil || i > 0 && queue != place {
			return nil, fmt.Errorf("%w: what is called back by a workflow are tasks, all in one queue", ErrInvalidTask)
		}
		tasks, place = append(tasks, n), queue
	}
	return f.graph.AddCallback(tasks, place), nil
}

// SubmitFlow starts a workflow that is one part: a chain, say. This queue is its home.
func (q *Queue) SubmitFlow(ctx context.Context, part Part, options ...FlowOption) (*Run, error) {
	f := NewFlow(q, "", options...)
	f.Add(part)
	return f.Submit(ctx)
}

// carrier carries on the workflows whose home is this queue.
func (q *Queue) carrier() *flow.Carrier { return flow.NewCarrier(q.store, q.adder()) }

// adder sees that what is enqueued is as durable as this queue wants it.
func (q *Queue) adder() flow.Adder {
	if q.durability.text == inMemory {
		return nil
	}
	return func(ctx context.Context, store *rdb.Store, name string, keys []string, args ...string) (any, error) {
		other := *q
		other.store = store
		return other.add(ctx, name, keys, args...)
	}
}
