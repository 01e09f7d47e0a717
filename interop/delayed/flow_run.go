package delayed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

const (
	runsPage    = 1000
	carrySome   = 5 * time.Second  // that a call carries on what it has changed
	forgetTries = 3                // of a workflow that others carry on meanwhile
	never       = 9007199254740991 // when a workflow is forgotten that has not ended
)

// Run is a workflow that has been submitted.
type Run struct {
	// ID is its id, which is that of a tracked task.
	ID    string
	queue *Queue // its home
	flow  string
}

// FlowStatus is a workflow at one moment.
type FlowStatus struct {
	State          State // building, running, failing, cancelling, succeeded, failed or cancelled
	Name           string
	Created, Ended time.Time // Ended is zero if it goes on
	Total          int       // nodes
	Left           int       // of them that have not ended
	Succeeded      int
	Failed         int
	Expired        int
	Cancelled      int
	Skipped        int
}

// Node is one node of a workflow.
type Node struct {
	ID    string
	Index int
	Label string // its function, or what it was called
	Queue string
	State State // waiting, released, succeeded, failed, expired, cancelled or skipped
}

// Run is the handle of a workflow whose home is this queue, by its id or that of one of its nodes.
func (q *Queue) Run(id string) (*Run, error) {
	of, ok := rdb.FlowOf(id)
	if !ok {
		return nil, fmt.Errorf("%w: the id of a workflow has 16 characters, not %.100q", ErrInvalidTask, id)
	}
	return &Run{ID: rdb.NodeID(of, -1), queue: q, flow: of}, nil
}

// Runs are the workflows whose home is this queue, the newest end first, and before those the ones that go on; the latter alone unless
// ended. They are read in pages. An error ends them.
func (q *Queue) Runs(ctx context.Context, ended bool) iter.Seq2[*Run, error] {
	least := strconv.Itoa(never)
	if ended {
		least = "-inf"
	}
	return func(yield func(*Run, error) bool) {
		for at := 0; ; at += runsPage {
			reply, err := q.store.Caller.Call(ctx, "ZREVRANGEBYSCORE", q.store.Keys.FlowIDs, "+inf", least, "LIMIT", strconv.Itoa(at),
				strconv.Itoa(runsPage))
			if err != nil {
				yield(nil, err)
				return
			}
			found, _ := reply.([]any)
			for _, each := range found {
				id := string(rdb.Bulk(each))
				if !yield(&Run{rdb.NodeID(id, -1), q, id}, nil) {
					return
				}
			}
			if len(found) < runsPage {
				return
			}
		}
	}
}

// Handle is the workflow as a task: its state, and the result of its last node.
func (r *Run) Handle() *Handle { return r.queue.Handle(r.ID) }

// Status is where it is, by one command. The error wraps ErrUnknownTask if nothing is known of it.
func (r *Run) Status(ctx context.Context) (FlowStatus, error) {
	found, err := r.queue.carrier().Fields(ctx, r.flow, "state", "name", "created", "ended", "total", "left", "failed", "expired", "cancelled", "skipped")
	if err != nil {
		return FlowStatus{}, err
	}
	if found[0] == nil {
		return FlowStatus{}, r.unknown()
	}
	var n [6]int
	for i := range n {
		n[i], _ = strconv.Atoi(string(found[4+i])) //nolint:errcheck // what has not been counted is 0
	}
	return FlowStatus{
		State: State(found[0]), Name: string(found[1]), Created: moment(string(found[2])), Ended: moment(string(found[3])),
		Total: n[0], Left: n[1], Failed: n[2], Expired: n[3], Cancelled: n[4], Skipped: n[5],
		Succeeded: n[0] - n[1] - n[2] - n[3] - n[4] - n[5],
	}, nil
}

func (r *Run) unknown() error {
	return fmt.Errorf("%w: no workflow %s is known in %q: it is elsewhere, or what was kept has run out", ErrUnknownTask, r.ID, r.queue.Name())
}

// Wait waits for its end, and returns how it has ended: succeeded, failed or cancelled. When ctx ends, the error wraps ErrNotDone and its
// cause.
func (r *Run) Wait(ctx context.Context) (State, error) {
	err := r.Handle().Result(ctx, nil)
	if err != nil && !errors.Is(err, ErrTaskFailed) && !errors.Is(err, ErrTaskCancelled) {
		return "", err
	}
	status, err := r.Status(ctx)
	return status.State, err
}

// Result waits for its end, and decodes what its last node has returned into the variable that into points to, which is set to zero if it
// has several of these, or that has returned nothing: see Value. A workflow that did not succeed is a *TaskFailed or ErrTaskCancelled. Else
// as Handle.Result.
func (r *Run) Result(ctx context.Context, into any) error {
	return valueOrZero(r.Handle().Result(ctx, into), into)
}

// valueOrZero sets the variable that into points to to zero if the error says that there is no value.
func valueOrZero(err error, into any) error {
	if !errors.Is(err, ErrNoResult) {
		return err
	}
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("%w: a value needs a pointer, not %T", ErrConfiguration, into)
	}
	target.Elem().SetZero()
	return nil
}

// Nodes are its nodes in their order, read in pages; those in one state if it is not empty. An error ends them.
func (r *Run) Nodes(ctx context.Context, state State) iter.Seq2[Node, error] {
	return func(yield func(Node, error) bool) {
		carrier := r.queue.carrier()
		for set, err := range carrier.Sets(ctx, r.flow) {
			for at := int64(0); err == nil && at < set.Size; at += runsPage {
				var marks []byte
				if marks, err = carrier.Marks(ctx, r.flow, set.First+at, min(runsPage, set.Size-at)); err != nil {
					break
				}
				for i, mark := range marks {
					node := r.node(set, set.First+at+int64(i), mark)
					if (state == "" || node.State == state) && !yield(node, nil) {
						return
					}
				}
			}
			if err != nil {
				yield(Node{}, err)
				return
			}
		}
	}
}

func (r *Run) node(set flow.Set, index int64, mark byte) Node {
	return Node{rdb.NodeID(r.flow, index), int(index), set.Label, set.Queue, stateOfMark(mark)}
}

// stateOfMark is what a mark says.
func stateOfMark(mark byte) State {
	switch mark {
	case 'q':
		return StateReleased
	case 's':
		return StateSucceeded
	case 'f':
		return StateFailed
	case 'x':
		return StateExpired
	case 'c':
		return StateCancelled
	case 'k':
		return StateSkipped
	}
	return StateWaiting
}

// Node is one node: which is what Add has returned, its index, its id, or its name; of a group or a map that is the first one. The error
// wraps ErrUnknownTask if there is none.
func (r *Run) Node(ctx context.Context, which any) (Node, error) {
	carrier := r.queue.carrier()
	for set, err := range carrier.Sets(ctx, r.flow) {
		if err != nil {
			return Node{}, err
		}
		index, err := r.indexOf(which, set)
		if err != nil {
			return Node{}, err
		}
		if index < set.First || index >= set.First+set.Size {
			continue
		}
		marks, err := carrier.Marks(ctx, r.flow, index, 1)
		if err != nil {
			return Node{}, err
		}
		return r.node(set, index, marks[0]), nil
	}
	if ref, ok := which.(Ref); ok && len(ref.ref.Blocks) > 0 {
		which = fmt.Sprintf("of set %d", ref.ref.Blocks[0].Number)
	}
	return Node{}, fmt.Errorf("%w: workflow %s has no node %.100v", ErrUnknownTask, r.ID, which)
}

// indexOf is the index of the node that is meant, if it is in this set; -1 if it is elsewhere.
func (r *Run) indexOf(which any, set flow.Set) (int64, error) {
	switch which := which.(type) {
	case Ref:
		if len(which.ref.Blocks) > 0 && which.ref.Blocks[0].Number == set.Number {
			return set.First, nil
		}
		return -1, nil
	case int:
		return int64(which), nil
	case string:
		if which == set.Label {
			return set.First, nil
		}
		if of, ok := rdb.FlowOf(which); ok && of == r.flow {
			return rdb.NodeIndex(which), nil
		}
		return -1, nil
	}
	return 0, fmt.Errorf("%w: a node is named by what Add has returned, its index, its id or its name, not by %T", ErrConfiguration, which)
}

// Value decodes what a node that has ended has returned into the variable that into points to, which is set to zero if that is nothing.
// which is as for Node. One that did not succeed is a *TaskFailed, ErrTaskExpired or ErrTaskCancelled; the error wraps ErrUnknownTask if
// it has not ended.
func (r *Run) Value(ctx context.Context, which, into any) error {
	node, err := r.Node(ctx, which)
	if err != nil {
		return err
	}
	found, err := r.queue.carrier().Fields(ctx, r.flow, "r"+strconv.Itoa(node.Index))
	if err != nil {
		return err
	}
	if found[0] == nil && node.State != StateSucceeded {
		return fmt.Errorf("%w: node %s of workflow %s has no result: it is %s", ErrUnknownTask, node.ID, r.ID, node.State)
	}
	return readValue(found[0], into)
}

// readValue reads the result of a node, as readResult does; one that returned nothing has none.
func readValue(data []byte, into any) error {
	if data == nil {
		data = packedSuccess
	}
	return valueOrZero(readResult(data, into), into)
}

// Cancel cancels it: what waits will not begin, what runs is told. The error wraps ErrUnknownTask if nothing is known of it.
func (r *Run) Cancel(ctx context.Context) error {
	_, err := r.tell(ctx, "X", "", nil)
	return err
}

// Signal lets the nodes go on that Wait for this, also those that are still to come, with what they return. It reports whether this was the
// first signal of the name; others change nothing.
func (r *Run) Signal(ctx context.Context, name string, payload any) (bool, error) {
	if name == "" || strings.ContainsFunc(name, unicode.IsSpace) {
		return false, fmt.Errorf("%w: the name of a signal is a word, not %q", ErrInvalidTask, name)
	}
	packed, err := packResult(string(StateSucceeded), payload)
	if err != nil {
		return false, fmt.Errorf("%w: what signal %s carries: %w", ErrNotEncodable, name, err)
	}
	return r.tell(ctx, "G"+name, "!"+name, packed)
}

// Forget removes a workflow that has ended, before FlowKeep is over: its state, its results, its tasks. Its unique key is free at once.
// Callbacks that have not begun run all the same, and find nothing of it; dead letters of its nodes stay. The error wraps ErrInvalidTask if
// it has not ended (cancel it first, or wait), and ErrUnknownTask if nothing is known of it.
func (r *Run) Forget(ctx context.Context) error {
	carrier := r.queue.carrier()
	for range forgetTries {
		// Its callbacks have to be enqueued, or a dead letter has opened it again.
		if _, err := carrier.Carry(ctx, r.flow, time.Now().Add(carrySome)); err != nil {
			return err
		}
		found, err := carrier.Fields(ctx, r.flow, "state", "ended")
		switch {
		case err != nil:
			return err
		case found[0] == nil:
			return r.unknown()
		case found[1] == nil:
			return fmt.Errorf("%w: workflow %s has not ended: it is %s; cancel it first, or wait", ErrInvalidTask, r.ID, found[0])
		}
		if done, err := carrier.Forget(ctx, r.flow); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: workflow %s has something left to do: wait a moment, and forget it then", ErrInvalidTask, r.ID)
}

func (r *Run) tell(ctx context.Context, entry, field string, payload []byte) (first bool, err error) {
	n, err := r.queue.store.TellFlowWith(ctx, r.flow, entry, field, payload)
	switch {
	case err != nil:
		return false, err
	case n == 0:
		return false, r.unknown()
	}
	_, err = r.queue.carrier().Carry(ctx, r.flow, time.Now().Add(carrySome))
	return n == 1, err
}

// RetryMode says what Run.Retry runs again.
type RetryMode string

// The modes.
const (
	RetryFailed     RetryMode = "failed_only"           // what has failed, expired or was cancelled, and then what was skipped
	RetryDownstream RetryMode = "failed_and_downstream" // also what came after it and has run nevertheless
	RetryAll        RetryMode = "all"                   // everything; a map keeps the nodes that it has
)

// Retry lets a workflow that has ended go on. It returns how many nodes have not ended now. The error wraps ErrInvalidTask if the workflow
// has not ended, or nothing in it has failed, and ErrUnknownTask if nothing is known of it.
func (r *Run) Retry(ctx context.Context, mode RetryMode) (int, error) {
	if mode != RetryFailed && mode != RetryDownstream && mode != RetryAll {
		return 0, fmt.Errorf("%w: a RetryMode is %s, %s or %s, not %q", ErrConfiguration, RetryFailed, RetryDownstream, RetryAll, mode)
	}
	carrier := r.queue.carrier()
	found, err := carrier.Fields(ctx, r.flow, "state", "ended")
	switch {
	case err != nil:
		return 0, err
	case found[0] == nil:
		return 0, r.unknown()
	case found[1] == nil:
		return 0, fmt.Errorf("%w: workflow %s has not ended: it is %s; cancel it first, or wait", ErrInvalidTask, r.ID, found[0])
	}
	left, err := carrier.Again(ctx, r.flow, string(found[1]), mode == RetryDownstream, mode == RetryAll)
	if errors.Is(err, flow.ErrNothing) || errors.Is(err, flow.ErrElse) {
		return 0, fmt.Errorf("%w: workflow %s: %w", ErrInvalidTask, r.ID, err)
	}
	if err == nil {
		_, err = carrier.Carry(ctx, r.flow, time.Now().Add(carrySome))
	}
	return int(left), err
}
