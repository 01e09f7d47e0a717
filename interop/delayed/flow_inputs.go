package delayed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"time"

	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// ErrSuperseded says that a task has been taken from its worker, or that its workflow is being stopped: what it wanted to add to that was
// not added.
var ErrSuperseded = errors.New("delayed: superseded")

var packedSuccess = wire.AppendString(wire.AppendArray(nil, 1), string(StateSucceeded))

// Input is a node before the one that runs.
type Input struct {
	ID    string
	State State // succeeded, failed, expired, cancelled or skipped; or, where not all are waited for, waiting or released
	data  []byte
}

// Value decodes what it has returned into the variable that into points to, which is set to zero if that is nothing. One that did not
// succeed is a *TaskFailed, ErrTaskExpired or ErrTaskCancelled, or wraps ErrNoResult; into may be nil, to hear only of these.
func (i Input) Value(into any) error {
	if i.data == nil && i.State != StateSucceeded {
		return fmt.Errorf("%w: node %s is %s", ErrNoResult, i.ID, i.State)
	}
	return readValue(i.data, into)
}

// before are the nodes before the one that ctx belongs to, by their indices, and whether it finds a list.
func before(ctx context.Context) (carrier *flow.Carrier, job *Job, listed bool, indices []int64, err error) {
	job = CurrentTask(ctx)
	if job == nil || job.member.Home == "" {
		return nil, nil, false, nil, fmt.Errorf("%w: this is no node of a workflow", ErrNoResult)
	}
	home, err := job.queue.at(job.member.Home)
	if err != nil {
		return nil, nil, false, nil, err
	}
	carrier = home.carrier()
	listed, indices, err = carrier.Sources(ctx, job.member.Flow, job.member.Set)
	return carrier, job, listed, indices, err
}

// Inputs are the nodes before the one that runs, whose context this is, in their order, each with how it has ended. They are read a
// thousand at a time. An error ends them.
func Inputs(ctx context.Context) iter.Seq2[Input, error] {
	return func(yield func(Input, error) bool) {
		carrier, job, _, indices, err := before(ctx)
		if err != nil {
			yield(Input{}, err)
			return
		}
		inputs(ctx, carrier, job, indices)(yield)
	}
}

func inputs(ctx context.Context, carrier *flow.Carrier, job *Job, indices []int64) iter.Seq2[Input, error] {
	return func(yield func(Input, error) bool) {
		for each, err := range carrier.Results(ctx, job.member.Flow, indices) {
			input := Input{}
			if err == nil {
				input = Input{rdb.NodeID(job.member.Flow, each.Index), stateOfMark(each.Mark), each.Data}
			}
			if !yield(input, err) || err != nil {
				return
			}
		}
	}
}

// Results are what the nodes before the one that runs have returned, in their order: the zero value for one that has not succeeded, or has
// returned nothing. They are read a thousand at a time, so that many need no memory. An error ends them.
func Results[T any](ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for input, err := range Inputs(ctx) {
			var value T
			if err == nil && input.State == StateSucceeded {
				err = input.Value(&value)
			}
			if !yield(value, err) || err != nil {
				return
			}
		}
	}
}

// Previous decodes what the nodes before the one that runs, whose context this is, have returned into the variable that into points to: the
// value of a single node, or after a group, a map or several nodes a slice of their values, with the zero value for one that has not
// succeeded. A single node that has not succeeded is its error, for which into may be nil. Without a node before it the error wraps
// ErrNoResult.
func Previous(ctx context.Context, into any) error {
	carrier, job, listed, indices, err := before(ctx)
	switch {
	case err != nil:
		return err
	case !listed && len(indices) == 0:
		return fmt.Errorf("%w: no node is before this one", ErrNoResult)
	}
	if !listed {
		for input, err := range inputs(ctx, carrier, job, indices) {
			if err != nil {
				return err
			}
			return input.Value(into)
		}
	}
	target := reflect.Indirect(reflect.ValueOf(into))
	list := target
	switch {
	case target.IsValid() && target.CanSet() && target.Type() == reflect.TypeFor[any]():
		list = reflect.New(reflect.TypeFor[[]any]()).Elem()
	case !target.IsValid() || !target.CanSet() || target.Kind() != reflect.Slice:
		return fmt.Errorf("%w: several nodes are before this one: Previous takes a pointer to a slice, not %T", ErrConfiguration, into)
	}
	list.Set(reflect.MakeSlice(list.Type(), 0, len(indices)))
	for input, err := range inputs(ctx, carrier, job, indices) {
		value := reflect.New(list.Type().Elem())
		if err == nil && input.State == StateSucceeded {
			if err = input.Value(value.Interface()); err != nil {
				err = fmt.Errorf("delayed: what node %s has returned: %w", input.ID, err)
			}
		}
		if err != nil {
			return err
		}
		list.Set(reflect.Append(list, value.Elem()))
	}
	target.Set(list)
	return nil
}

// FlowOf is the workflow of the node that runs, whose context this is. The error wraps ErrUnknownTask if it is none.
func FlowOf(ctx context.Context) (*Run, error) {
	job := CurrentTask(ctx)
	if job == nil || job.member.Home == "" {
		return nil, fmt.Errorf("%w: this is no node of a workflow", ErrUnknownTask)
	}
	home, err := job.queue.at(job.member.Home)
	if err != nil {
		return nil, err
	}
	return home.Run(job.ID)
}

// AddToFlow adds a part beside the node that runs, whose context this is: what waits for that node waits for this, too. A task that is
// executed again, because its worker was lost, adds nothing twice: what it adds is known by name, or by the number of the call if that is
// "". It returns false if it had been added before. If the lease of the task was lost, or the workflow is being stopped, the error wraps
// ErrSuperseded, and nothing was added; ErrInvalidTask if it has more than 1,000 nodes, or a queue that the workflow does not have, or
// if, on a cluster, the queue of the node is in another slot than the workflow's home.
func AddToFlow(ctx context.Context, part Part, name string) (bool, error) {
	return addToFlow(ctx, nil, part, name)
}

func addToFlow(ctx context.Context, app *App, part Part, name string) (bool, error) {
	job := CurrentTask(ctx)
	if job == nil || job.member.Home == "" || job.lease == "" || !job.queue.store.Reaches(job.member.Home) {
		return false, fmt.Errorf("%w: nodes can be added while a worker runs a node whose queue is in the slot of the workflow's home",
			ErrInvalidTask)
	}
	home, err := job.queue.at(job.member.Home)
	if err != nil {
		return false, err
	}
	a := flow.Addition{Member: job.member, Processing: job.queue.store.Keys.Processing, Lease: job.lease, Name: name}
	if name == "" {
		a.Count = job.added.Add(1)
	}
	if home.around == nil {
		return appendToFlow(ctx, job, home, app, a, part)
	}
	added := false
	err = home.within(ctx, &Sending{Queue: home.Name()}, func(ctx context.Context, s *Sending) (err error) {
		added, err = appendToFlow(ctx, job, home, app, a, part)
		s.Workflow = job.Flow()
		return err
	})
	return added, err
}

func appendToFlow(ctx context.Context, job *Job, home *Queue, app *App, a flow.Addition, part Part) (bool, error) {
	carrier := home.carrier()
	added, err := carrier.Append(ctx, a, func(base flow.Base, policy string) (*flow.Graph, error) {
		f := newFlow(home, "", base, []FlowOption{OnFailure(Policy(policy))})
		f.app, f.inherited, f.trace = app, job.Metadata, home.traceIn(ctx)
		f.Add(part)
		if f.err == nil {
			f.graph.Number()
		}
		return f.graph, f.err
	})
	if errors.Is(err, flow.ErrSuperseded) {
		return false, fmt.Errorf("%w: %w", ErrSuperseded, err)
	}
	if err == nil {
		_, err = carrier.Carry(ctx, job.member.Flow, time.Now().Add(carrySome))
	}
	return added, err
}

// at is another queue, reached the same way.
func (q *Queue) at(name string) (*Queue, error) {
	keys, err := rdb.NewKeys(name)
	if err != nil {
		return nil, err
	}
	other := *q
	other.store = q.store.At(keys)
	return &other, nil
}
