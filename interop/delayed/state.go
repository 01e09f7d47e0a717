package delayed

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/delayedq/delayed/interop/internal/wire"
)

// State is where a tracked task is in its life.
type State string

// The states.
const (
	StateQueued    State = "queued"    // it waits in the queue
	StateScheduled State = "scheduled" // it waits for its time
	StateRunning   State = "running"
	StateRetrying  State = "retrying" // it has failed, and waits for its next attempt
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"
	StateExpired   State = "expired"
	StateCancelled State = "cancelled"
)

// The states that only workflows and their nodes have.
const (
	StateWaiting    State = "waiting"    // a node: others are before it
	StateReleased   State = "released"   // a node: it is in its queue, or runs, or it waits for a signal
	StateSkipped    State = "skipped"    // a node: it will not run, because of how those before it have ended
	StateBuilding   State = "building"   // a workflow that is being submitted
	StateFailing    State = "failing"    // a workflow that has failed, and stops what runs
	StateCancelling State = "cancelling" // a workflow that has been cancelled, and stops what runs
)

// Why a handle gives no result.
var (
	// ErrTaskFailed is what a *TaskFailed wraps.
	ErrTaskFailed = errors.New("delayed: the task failed")
	// ErrTaskExpired says that it was too late to begin when a worker took the task.
	ErrTaskExpired = errors.New("delayed: the task expired")
	// ErrTaskCancelled says that somebody has cancelled the task. It is also the cause (context.Cause) of the end of a running
	// task's context.
	ErrTaskCancelled = errors.New("delayed: the task was cancelled")
	// ErrNotDone says that the task has not ended in the time that was given; it may still.
	ErrNotDone = errors.New("delayed: the task has not ended")
	// ErrUnknownTask says that no task with this id is known: what was kept of it has run out, or it was never in this queue.
	ErrUnknownTask = errors.New("delayed: unknown task")
	// ErrNoResult says that nothing is kept of the task: give it ResultTTL, or Track.
	ErrNoResult = errors.New("delayed: the task keeps no result")
	// ErrDuplicate is what a *Duplicate wraps.
	ErrDuplicate = errors.New("delayed: another task has the unique key")
)

// TaskFailed is how a task failed, in whichever language.
type TaskFailed struct {
	Kind      string // the type of the exception or error, or a reason of the dead letters
	Message   string // what it said
	Traceback string // where
}

func (f *TaskFailed) Error() string {
	if f.Message == "" {
		return "delayed: the task failed: " + f.Kind
	}
	return "delayed: the task failed: " + f.Kind + ": " + f.Message
}

// Unwrap makes it ErrTaskFailed.
func (f *TaskFailed) Unwrap() error { return ErrTaskFailed }

// Duplicate says that another task has the unique key, and that nothing was enqueued.
type Duplicate struct {
	Queue string
	ID    string // of the other task; empty for a dead letter that was to wait again
}

func (d *Duplicate) Error() string {
	if d.ID == "" {
		return fmt.Sprintf("delayed: another task in %q has the unique key of the dead letter, which stays where it is", d.Queue)
	}
	return fmt.Sprintf("delayed: task %s in %q has the unique key already; nothing was enqueued", d.ID, d.Queue)
}

// Unwrap makes it ErrDuplicate.
func (d *Duplicate) Unwrap() error { return ErrDuplicate }

// packResult is how a task ended, as it is stored.
func packResult(parts ...any) ([]byte, error) { return wire.Encode(parts, false) }

// readResult reads how a task ended, and its value into the variable that into points to, if it is not nil.
func readResult(data []byte, into any) error {
	d := wire.NewDecoder(data)
	count, err := d.DecodeArrayLen()
	if err != nil || count < 1 {
		return fmt.Errorf("delayed: %.100x is no result: %w", data, err)
	}
	state, err := d.DecodeString()
	if err != nil {
		return fmt.Errorf("delayed: %.100x is no result: %w", data, err)
	}
	switch State(state) {
	case StateExpired:
		return ErrTaskExpired
	case StateCancelled:
		return ErrTaskCancelled
	case StateFailed:
		var words [3]string
		for i := range min(count-1, 3) {
			if words[i], err = d.DecodeString(); err != nil {
				return fmt.Errorf("delayed: %.100x is no result: %w", data, err)
			}
		}
		return &TaskFailed{words[0], words[1], words[2]}
	}
	if into == nil {
		return nil
	}
	if count < 2 {
		return fmt.Errorf("%w: give it ResultTTL", ErrNoResult)
	}
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("%w: Result takes a pointer, not %T", ErrConfiguration, into)
	}
	target.Elem().SetZero()
	return d.Into(target.Elem())
}
