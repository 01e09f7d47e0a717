package delayed

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// Part is what a workflow is made of: a GoTask, a PyTask or (in one of an App) a Call, or a chain or a group of parts.
type Part interface{ isPart() }

func (t *GoTask) isPart() {}
func (t *PyTask) isPart() {}
func (c Call) isPart()    {}
func (p Parts) isPart()   {}
func (l linked) isPart()  {}
func (o on) isPart()      {}

// Parts are parts in a row (ChainOf), or beside each other (GroupOf).
type Parts struct {
	parts []Part
	group bool
}

// ChainOf are parts one after the other. Each finds by Previous what the one before it has returned.
func ChainOf(parts ...Part) Parts { return Parts{parts, false} }

// GroupOf are parts beside each other. What comes after them finds all their results, by Previous or Results.
func GroupOf(parts ...Part) Parts { return Parts{parts, true} }

// Then is a chain: these parts, and then another.
func (p Parts) Then(next Part) Parts {
	if p.group {
		return ChainOf(p, next)
	}
	return Parts{append(p.parts[:len(p.parts):len(p.parts)], next), false}
}

type linked struct {
	part               Part
	onSuccess, onError []Part
}

// Linked is a part with others that run after it: when it has succeeded, or when its last attempt has failed. With the latter, its failure
// does not make the workflow fail.
func Linked(part Part, onSuccess, onError []Part) Part { return linked{part, onSuccess, onError} }

type on struct {
	queue string
	part  Part
}

// On puts all tasks of a part into the queue of this name on Redis.
func On(queue string, part Part) Part { return on{queue, part} }

// node is a task of a workflow.
type node struct {
	task   Task
	flow   *Flow
	ofApp  bool // it inherits metadata
	mapped bool // it is what a map calls with each element
}

func (n *node) FuncPath() string { return n.task.FuncPath() }

// Alone reports whether it asks for more than a place in its queue.
func (n *node) Alone() bool {
	o := asksOf(n.task)
	return o != nil && (o.group != nil || o.unique != nil)
}

// Node gives its bytes.
func (n *node) Node(home string, set int64, id string, now time.Time) ([]byte, error) {
	var o taskOptions
	if own := asksOf(n.task); own != nil {
		o = *own
	}
	o.track, o.home, o.set = true, home, set
	if n.ofApp && len(n.flow.inherited) > 0 {
		inherited := maps.Clone(n.flow.inherited)
		maps.Copy(inherited, o.metadata)
		o.metadata = inherited
	}
	task := n.task
	switch own := n.task.(type) {
	case *GoTask:
		args := own.args
		if n.mapped && len(args) == 1 { // that it is an array shows that it is one of several
			args = []any{args}
		}
		task = &GoTask{own.path, args, &o}
	case *PyTask:
		task = &PyTask{own.path, own.args, own.kwargs, &o}
	}
	data, err := n.flow.home.serialize(task, birth{id: id, at: now, trace: n.flow.trace})
	return []byte(data), err
}

// check says why a task cannot be one of a workflow.
func (f *Flow) check(task Task) error {
	path := task.FuncPath()
	module, name, python := strings.Cut(path, wire.Separator)
	switch task.(type) {
	case *GoTask:
		if path == "" || python {
			return fmt.Errorf("%w: %q is not the path of a Go function: write it as 'package/path.Function'", ErrInvalidTask, path)
		}
	case *PyTask:
		if module == "" || name == "" {
			return fmt.Errorf("%w: %q is not the path of a Python function: write it as 'module.path:function'", ErrInvalidTask, path)
		}
	}
	o := asksOf(task)
	if o == nil || o == f.checked { // many tasks share them
		return nil
	}
	if o.at != nil || o.after != nil || o.rateKey != nil {
		return fmt.Errorf("%w: %s: At, After and RateKey are for tasks that are enqueued at once; let the workflow wait: Flow.Wait",
			ErrInvalidTask, path)
	}
	f.checked = o
	return o.check()
}

// leaf is the task of a part that is one, and its queue; nil for others.
func (f *Flow) leaf(p Part, queue string, mapped bool) (*node, string, error) {
	n := &node{flow: f, mapped: mapped}
	place := f.home.Name()
	switch p := p.(type) {
	case *GoTask:
		if p == nil {
			return nil, "", errNoPart
		}
		n.task = p
	case *PyTask:
		if p == nil {
			return nil, "", errNoPart
		}
		n.task = p
	case Call:
		if f.app == nil {
			return nil, "", fmt.Errorf("%w: a Call is for workflows of an App: make this one by App.Flow or App.SubmitFlow", ErrInvalidTask)
		}
		task, full, err := f.app.callOf(p, f.asked, mapped)
		if err != nil {
			return nil, "", err
		}
		n.task, n.ofApp, place = task, true, full
	case on:
		return f.leaf(p.part, p.queue, mapped)
	case Parts, linked:
		return nil, "", nil
	default:
		return nil, "", errNoPart
	}
	if queue != "" {
		place = queue
	}
	return n, place, f.check(n.task)
}

// lay puts a part into the graph, all of it in one queue if that has a name.
func (f *Flow) lay(p Part, after []flow.Ref, policy, name, queue string, depth int) (flow.Ref, error) {
	switch p := p.(type) {
	case on:
		return f.lay(p.part, after, policy, name, p.queue, depth)
	case linked:
		return f.layLinked(p, after, policy, name, queue, depth)
	case Parts:
		if err := flow.TooDeep(depth); err != nil {
			return flow.Ref{}, err
		}
		if p.group {
			return f.layGroup(p, after, policy, name, queue, depth)
		}
		if len(p.parts) == 0 {
			return flow.Ref{}, fmt.Errorf("%w: a chain has one part at least", ErrInvalidTask)
		}
		for _, each := range p.parts {
			ref, err := f.lay(each, after, policy, name, queue, depth+1)
			if err != nil {
				return ref, err
			}
			after, policy = []flow.Ref{ref}, ""
		}
		return after[0], nil
	}
	n, place, err := f.leaf(p, queue, false)
	if err != nil {
		return flow.Ref{}, err
	}
	return f.connected([]flow.Task{n}, place, after, policy, name)
}

func (f *Flow) layLinked(p linked, after []flow.Ref, policy, name, queue string, depth int) (made flow.Ref, err error) {
	if err = flow.TooDeep(depth); err != nil {
		return made, err
	}
	if made, err = f.lay(p.part, after, policy, name, queue, depth+1); err != nil {
		return made, err
	}
	for _, each := range p.onSuccess {
		if _, err := f.lay(each, []flow.Ref{made}, string(PolicyStop), "", "", depth+1); err != nil {
			return made, err
		}
	}
	for _, each := range p.onError {
		if _, err := f.lay(each, []flow.Ref{made}, string(PolicyFailure), "", "", depth+1); err != nil {
			return made, err
		}
	}
	return made, nil
}

// layGroup: tasks in one queue, one after the other, are one set of nodes.
func (f *Flow) layGroup(p Parts, after []flow.Ref, policy, name, queue string, depth int) (made flow.Ref, err error) {
	var some []flow.Task
	place := f.home.Name()
	flush := func() error {
		ref, err := f.connected(some, place, after, policy, name)
		made.Blocks, some = append(made.Blocks, ref.Blocks...), nil
		return err
	}
	for _, each := range p.parts {
		n, its, err := f.leaf(each, queue, false)
		if err == nil && len(some) > 0 && (n == nil || its != place) {
			err = flush()
		}
		if err != nil {
			return made, err
		}
		if n != nil {
			some, place = append(some, n), its
			continue
		}
		ref, err := f.lay(each, after, policy, name, queue, depth+1)
		if err != nil {
			return made, err
		}
		made.Blocks = append(made.Blocks, ref.Blocks...)
	}
	if len(some) > 0 || len(made.Blocks) == 0 {
		if err := flush(); err != nil {
			return made, err
		}
	}
	if len(made.Blocks) == 1 {
		made.Blocks[0].Many = true
	}
	return made, nil
}

func (f *Flow) connected(tasks []flow.Task, queue string, after []flow.Ref, policy, name string) (flow.Ref, error) {
	b := f.graph.Add(tasks, queue, name)
	return flow.Ref{Blocks: []*flow.Block{b}}, f.graph.Connect(b, after, policy)
}
