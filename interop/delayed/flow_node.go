package delayed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// packedNothing is the result of a node that has returned nothing.
var packedNothing = wire.AppendNil(wire.AppendString(wire.AppendArray(nil, 2), string(StateSucceeded)))

const (
	nodeWaits   = "it waits for those before it in its workflow"
	nodeSkipped = "it was skipped, as those before it have not succeeded"
)

// asNode finds the node with this id, if the home of its workflow is this queue: a node has no state of its own before it begins, and when
// what was kept of its end has run out. The error wraps ErrUnknownTask if there is none.
func (h *Handle) asNode(ctx context.Context) (run *Run, set flow.Set, index int64, state State, err error) {
	of, ok := rdb.FlowOf(h.ID)
	if !ok {
		return nil, set, 0, "", h.unknown()
	}
	run, index = &Run{ID: rdb.NodeID(of, -1), queue: h.queue, flow: of}, rdb.NodeIndex(h.ID)
	carrier := h.queue.carrier()
	for set, err := range carrier.Sets(ctx, of) {
		if err != nil {
			return nil, set, 0, "", err
		}
		if index < set.First || index >= set.First+set.Size {
			continue
		}
		marks, err := carrier.Marks(ctx, of, index, 1)
		return run, set, index, stateOfMark(marks[0]), err
	}
	return nil, set, 0, "", h.unknown()
}

// nodePlace is where it stands what has become of the node with an id, if the workflow has its home in the queue, and there is one.
type nodePlace struct {
	id    string
	index int64
	key   string // of the workflow
	marks string // likewise
}

// nodePlace is the one that an id may be of; nil if it cannot be one.
func (q *Queue) nodePlace(id string) *nodePlace {
	of, ok := rdb.FlowOf(id)
	if index := rdb.NodeIndex(id); ok && index >= 0 {
		return &nodePlace{id, index, q.store.Keys.Flow(of), q.store.Keys.Marks(of)}
	}
	return nil
}

func (n *nodePlace) askMark() []string {
	return []string{"GETRANGE", n.marks, rdb.Decimal(n.index), rdb.Decimal(n.index)}
}

func (n *nodePlace) askFields() []string {
	return []string{"HMGET", n.key, "state", "next", "r" + rdb.Decimal(n.index)}
}

// undecided reports whether a workflow may know more than what the state of a task says: it has none, or not what was returned.
func undecided(found answer) bool {
	return errors.Is(found.err, ErrUnknownTask) || errors.Is(found.err, ErrNoResult) || string(found.data) == string(packedSuccess)
}

// answer is how the node has ended, and nothing if it has not; known is false if there is no such node, or, as the one of a map, no more.
func (n *nodePlace) answer(mark, reply any) (found answer, known bool) {
	fields, _ := reply.([]any)
	if _, refused := mark.(error); refused || len(fields) != 3 { // another program's keys are no workflow
		return answer{}, false
	}
	result := rdb.Bulk(fields[2])
	next, err := strconv.ParseInt(string(rdb.Bulk(fields[1])), 10, 64)
	if rdb.Bulk(fields[0]) == nil || err != nil || n.index >= next || result != nil && len(result) == 0 {
		return answer{}, false
	}
	state := stateOfMark(append(rdb.Bulk(mark), 0)[0])
	switch {
	case state == StateWaiting || state == StateReleased:
		return answer{}, true
	case result != nil:
		return answer{data: result}, true
	case state == StateSucceeded:
		return answer{data: packedNothing}, true
	case state == StateSkipped:
		return answer{err: fmt.Errorf("%w: node %s: %s", ErrTaskCancelled, n.id, nodeSkipped)}, true
	}
	return answer{err: withoutResult([]any{[]byte(state), nil})}, true
}

// lookAtNode asks the workflow, if the task may be a node; known, if it is one.
func (h *Handle) lookAtNode(ctx context.Context) (found answer, known bool, err error) {
	n := h.queue.nodePlace(h.ID)
	if n == nil {
		return answer{}, false, nil
	}
	mark, err := h.queue.store.Caller.Call(ctx, n.askMark()...)
	if err != nil {
		return answer{}, false, err
	}
	fields, err := h.queue.store.Caller.Call(ctx, n.askFields()...)
	found, known = n.answer(mark, fields)
	return found, known, err
}

// nodeState is the state as that of a task.
func nodeState(state State) State {
	switch state {
	case StateWaiting, StateReleased:
		return StateQueued
	case StateSkipped:
		return StateCancelled
	}
	return state
}

func (h *Handle) nodeStatus(ctx context.Context) (Status, error) {
	_, _, _, state, err := h.asNode(ctx)
	status := Status{State: nodeState(state)}
	switch state {
	case StateWaiting:
		status.Waits = nodeWaits
	case StateSkipped:
		status.Error = nodeSkipped
	}
	return status, err
}

func (h *Handle) cancelNode(ctx context.Context) (State, error) {
	run, set, index, state, err := h.asNode(ctx)
	if err != nil {
		return "", err
	}
	if state == StateWaiting && set.Size > 1 {
		return "", fmt.Errorf("%w: node %s is one of %d that begin together and wait: cancel workflow %s, or wait", ErrInvalidTask, h.ID,
			set.Size, run.ID)
	}
	if state == StateWaiting || state == StateReleased {
		carrier := h.queue.carrier()
		if err = carrier.CancelNode(ctx, run.flow, set, index); err == nil {
			_, err = carrier.Carry(ctx, run.flow, time.Now().Add(carrySome))
		}
	}
	return nodeState(state), err
}
