package delayed

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const slice = time.Second // of waiting in one command: clients have deadlines for replies

// Handle is a task that has been enqueued.
type Handle struct {
	// ID is its id; empty for a task that is not tracked, of which nothing is known.
	ID    string
	queue *Queue
}

// Handle is the handle of a task of this queue that somebody else has enqueued.
func (q *Queue) Handle(id string) *Handle { return &Handle{id, q} }

// Status is a tracked task at one moment. Times are zero if they are not known.
type Status struct {
	State    State
	Enqueued time.Time
	Due      time.Time // when it may begin
	Started  time.Time // when its last attempt began
	Attempt  int       // the number of that, counted from 1; 0 if none has begun
	Worker   string    // host:pid of that
	Error    string    // what the last attempt that failed said
	Waits    string    // why a task whose turn it was does not run yet
	Progress *Progress // what the task has reported
}

// Progress is how far a task says that it is.
type Progress struct {
	Done, Total float64 // Total is 0 if it is not known
	Note        string
}

// Status is where the task is. The error wraps ErrUnknownTask or ErrNoResult if nothing is known.
func (h *Handle) Status(ctx context.Context) (Status, error) {
	if err := h.known(); err != nil {
		return Status{}, err
	}
	reply, err := h.queue.caller.call(ctx, "HGETALL", h.queue.Keys.Task(h.ID))
	if err != nil {
		return Status{}, err
	}
	fields := fieldsOf(reply)
	if len(fields) == 0 {
		return Status{}, h.unknown()
	}
	status := Status{
		State: State(fields["state"]), Enqueued: moment(fields["enqueued"]), Due: moment(fields["due"]),
		Started: moment(fields["started"]), Worker: fields["worker"], Error: fields["error"], Waits: fields["waits"],
		Progress: progressFrom(fields["progress"]),
	}
	status.Attempt, _ = strconv.Atoi(fields["attempt"]) //nolint:errcheck // it is there once the task has begun
	if status.State == StateScheduled && !status.Due.After(time.Now()) {
		status.State = StateQueued
	}
	return status, nil
}

// Result waits for the task's end, and decodes what it has returned into the variable that into points to; nil for no value. A task
// that did not succeed is a *TaskFailed, ErrTaskExpired or ErrTaskCancelled. When ctx ends, the error wraps ErrNotDone and its cause.
// ErrUnknownTask and ErrNoResult say that there is nothing to wait for.
func (h *Handle) Result(ctx context.Context, into any) error {
	if err := h.known(); err != nil {
		return err
	}
	over := false // it has ended: its result is there, or never will be
	for {
		data, err := h.await(ctx, over)
		if err != nil {
			return err
		}
		if data != nil {
			return readResult(data, into)
		}
		reply, err := h.queue.caller.call(ctx, "HMGET", h.queue.Keys.Task(h.ID), "state", "error")
		if err != nil {
			return h.late(ctx, err)
		}
		if over, err = h.over(reply, over); err != nil {
			return err
		}
	}
}

// over tells, by its state and error, whether the task has ended. Once that was known, and there was no result then, it says what became
// of it. (Both are stored at once, and we ask for one after the other.)
func (h *Handle) over(fields any, known bool) (bool, error) {
	values, _ := fields.([]any)
	if len(values) != 2 || bulk(values[0]) == nil {
		return false, h.unknown()
	}
	var err error
	switch State(bulk(values[0])) {
	case StateFailed:
		kind, message, _ := strings.Cut(string(bulk(values[1])), ": ")
		err = &TaskFailed{Kind: kind, Message: message}
	case StateExpired:
		err = ErrTaskExpired
	case StateCancelled:
		err = ErrTaskCancelled
	case StateSucceeded:
		err = fmt.Errorf("%w any more: see ResultTTL", ErrNoResult)
	default:
		return false, nil
	}
	if !known {
		err = nil
	}
	return true, err
}

// await waits for a while. Those who wait turn the list of one element, so that each of them sees it, and nobody takes it away.
func (h *Handle) await(ctx context.Context, over bool) ([]byte, error) {
	key := h.queue.Keys.Result(h.ID)
	if over {
		reply, err := h.queue.caller.call(ctx, "LINDEX", key, "0")
		return bulk(reply), h.late(ctx, err)
	}
	wait := slice
	if until, bounded := ctx.Deadline(); bounded {
		wait = min(wait, time.Until(until))
	}
	if ctx.Err() != nil || wait < time.Millisecond {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
		defer cancel()
		reply, err := h.queue.caller.call(ctx, "LINDEX", key, "0")
		if data := bulk(reply); data != nil || err != nil {
			return data, err
		}
		return nil, fmt.Errorf("%w: %s of %q; it may still", ErrNotDone, h.ID, h.queue.Name())
	}
	seconds := strconv.FormatFloat(wait.Seconds(), 'f', 3, 64)
	reply, err := h.queue.caller.call(ctx, "BLMOVE", key, key, "LEFT", "LEFT", seconds)
	return bulk(reply), h.late(ctx, err)
}

// late is err; that of a wait which ctx has ended says so.
func (h *Handle) late(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %s of %q; it may still: %w", ErrNotDone, h.ID, h.queue.Name(), context.Cause(ctx))
	}
	return err
}

// Cancel cancels the task: one that has not begun will not; of one that runs in Go the context ends, and one in Python is told. It
// returns in which state it was.
func (h *Handle) Cancel(ctx context.Context) (State, error) { return h.cancel(ctx, "1") }

// CancelHard is Cancel, but if the task runs on for a beat of its worker and a second, its process ends with it. What else runs there
// goes back to its queue.
func (h *Handle) CancelHard(ctx context.Context) (State, error) { return h.cancel(ctx, "hard") }

func (h *Handle) cancel(ctx context.Context, how string) (State, error) {
	if err := h.known(); err != nil {
		return "", err
	}
	result, err := packResult(string(StateCancelled))
	if err != nil {
		return "", err
	}
	state, err := h.queue.Cancel(ctx, h.ID, result, endedFor, how)
	if err == nil && state == "" {
		err = h.unknown()
	}
	return state, err
}

func (h *Handle) known() error {
	if h.ID == "" {
		return fmt.Errorf("%w: give it ResultTTL or Track where it is made", ErrNoResult)
	}
	return nil
}

func (h *Handle) unknown() error {
	return fmt.Errorf("%w: %s in %q: what was kept of it has run out (see ResultTTL), or it is elsewhere",
		ErrUnknownTask, h.ID, h.queue.Name())
}

// fieldsOf is a hash, in the form of RESP2 or of RESP3.
func fieldsOf(reply any) map[string]string {
	fields := map[string]string{}
	switch reply := reply.(type) {
	case []any:
		for i := 0; i+1 < len(reply); i += 2 {
			fields[string(bulk(reply[i]))] = string(bulk(reply[i+1]))
		}
	case map[any]any:
		for name, value := range reply {
			fields[string(bulk(name))] = string(bulk(value))
		}
	}
	return fields
}

// moment is an instant that is stored in milliseconds since 1970; 0 is none.
func moment(text string) time.Time {
	milliseconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || milliseconds == 0 {
		return time.Time{}
	}
	return time.UnixMilli(milliseconds)
}

func progressFrom(text string) *Progress {
	if text == "" {
		return nil
	}
	value, err := newDecoder([]byte(text)).anything()
	list, _ := value.([]any)
	if err != nil || len(list) != 3 {
		return nil
	}
	note, _ := list[2].(string)
	return &Progress{number(list[0]), number(list[1]), note}
}

func number(value any) float64 {
	switch value := value.(type) {
	case int64:
		return float64(value)
	case uint64:
		return float64(value)
	case float32:
		return float64(value)
	case float64:
		return value
	}
	return 0
}
