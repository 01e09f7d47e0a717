package delayed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const statusPatience = 5 * time.Second // for which a status is asked for again while Redis is away

var remindAfter = 5 * time.Second // that a task waits for another of its own queue before the log says so

// Handle is a task that has been enqueued.
type Handle struct {
	// ID is its id; empty for a task that has none.
	ID string
	// Tracked says that Redis keeps its state, without which there is neither Status nor Result.
	Tracked bool
	// Known says that the task was there before, so that the Submit which returned this has added nothing.
	Known bool
	queue *Queue
	path  string // of its function, if that is known
}

// Handle is the handle of a task of this queue that somebody else has enqueued.
func (q *Queue) Handle(id string) *Handle { return &Handle{ID: id, Tracked: id != "", queue: q} }

func (q *Queue) handle(id string, known bool, task Task) *Handle {
	return &Handle{ID: id, Tracked: asksOf(task).tracked(), Known: known, queue: q, path: task.FuncPath()}
}

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

// Status is where the task is. The error wraps ErrUnknownTask or ErrNoResult if nothing is known. While Redis is away for a moment, it is
// asked again. Of a node that has not begun, its workflow says this, if its home is this queue.
func (h *Handle) Status(ctx context.Context) (Status, error) {
	if err := h.known(); err != nil {
		return Status{}, err
	}
	until := time.Now().Add(statusPatience)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		status, err := h.status(ctx)
		if err == nil || errors.Is(err, ErrUnknownTask) || ctx.Err() != nil || !again(err) || time.Now().After(until) {
			return status, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return status, err
		}
	}
}

// statusFields are those that a Status is made of: not the result, which may be large.
var statusFields = []string{"state", "enqueued", "due", "started", "worker", "attempt", "error", "waits", "progress"}

func (h *Handle) status(ctx context.Context) (Status, error) {
	reply, err := h.queue.store.Caller.Call(ctx, append([]string{"HMGET", h.queue.store.Keys.Task(h.ID)}, statusFields...)...)
	if err != nil {
		return Status{}, err
	}
	fields := map[string]string{}
	found, _ := reply.([]any)
	for i, each := range found {
		if value := rdb.Bulk(each); value != nil && i < len(statusFields) {
			fields[statusFields[i]] = string(value)
		}
	}
	if len(fields) == 0 {
		return h.nodeStatus(ctx)
	}
	status := Status{
		State: State(fields["state"]), Enqueued: moment(fields["enqueued"]), Due: moment(fields["due"]),
		Started: moment(fields["started"]), Worker: fields["worker"], Error: fields["error"], Waits: fields["waits"],
		Progress: progressFrom(fields["progress"]),
	}
	status.Attempt, _ = strconv.Atoi(fields["attempt"]) //nolint:errcheck // it is there once the task has begun
	if status.State == StateScheduled {
		now, err := h.queue.serverTime(ctx)
		if err != nil {
			return Status{}, err
		}
		if !status.Due.After(now) {
			status.State = StateQueued
		}
	}
	return status, nil
}

// Result waits for the task's end, and decodes what it has returned into the variable that into points to; nil for no value. A task
// that did not succeed is a *TaskFailed, ErrTaskExpired or ErrTaskCancelled. When ctx ends, the error wraps ErrNotDone and its cause.
// ErrUnknownTask and ErrNoResult say that there is nothing to wait for. All waits of a client share one connection. A restart of Redis
// meanwhile only makes it longer. A node of a workflow whose home is this queue may have to begin yet; what it has returned is known
// without ResultTTL.
func (h *Handle) Result(ctx context.Context, into any) error {
	if err := h.known(); err != nil {
		return err
	}
	data, err := h.look(ctx)
	if data == nil && err == nil {
		data, err = h.await(ctx)
	}
	if err != nil {
		return err
	}
	return readResult(data, into)
}

// look reads the result, once; also if ctx has ended.
func (h *Handle) look(ctx context.Context) ([]byte, error) {
	over := ctx.Err() != nil
	if over {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), conn.Deadline)
		defer cancel()
	}
	reply, err := h.queue.store.Caller.Call(ctx, append([]string{"HMGET", h.queue.store.Keys.Task(h.ID)}, outcome...)...)
	if over && err != nil || err != nil && ctx.Err() == nil && !again(err) {
		return nil, err
	}
	found, ended := answerIn(reply)
	if ended && undecided(found) {
		of, known, err := h.lookAtNode(ctx)
		switch {
		case err != nil && (over || ctx.Err() == nil && !again(err)):
			return nil, err
		case err != nil: // who waits asks again
			found = answer{}
		case known && of.err != nil:
			return nil, of.err
		case known:
			found = of
		}
	}
	if found.data != nil {
		return found.data, nil
	}
	if over {
		return nil, fmt.Errorf("%w: %s of %q; it may still", ErrNotDone, h.ID, h.queue.Name())
	}
	return nil, nil
}

// await waits for the result until ctx ends.
func (h *Handle) await(ctx context.Context) ([]byte, error) {
	defer h.remind(ctx)()
	data, trouble, err := h.queue.await(ctx, h.ID)
	switch {
	case errors.Is(err, ErrUnknownTask):
		return nil, h.unknown()
	case err == nil || ctx.Err() == nil:
		return data, err
	case trouble != nil:
		return nil, fmt.Errorf("%w: %s of %q; it may still; Redis cannot be asked (%w): %w", ErrNotDone, h.ID, h.queue.Name(), trouble,
			context.Cause(ctx))
	}
	return nil, fmt.Errorf("%w: %s of %q; it may still: %w", ErrNotDone, h.ID, h.queue.Name(), context.Cause(ctx))
}

// remind says in the log, after a while, that a task waits for another of its own queue. What it returns ends that.
func (h *Handle) remind(ctx context.Context) func() {
	parent := CurrentTask(ctx)
	if parent == nil || parent.queue.Name() != h.queue.Name() {
		return func() {}
	}
	timer := time.AfterFunc(remindAfter, func() {
		slog.Warn("delayed: a task waits for a task of its own queue, and holds its place meanwhile: if all places wait like this, nothing "+
			"goes on. Give the context of Result a deadline, or the other task a queue and workers of its own, or run more at once",
			"function", parent.Path, "task_id", parent.ID, "waits_for", h.path, "its_id", h.ID, "queue", h.queue.Name(), "since", remindAfter)
	})
	return func() { timer.Stop() }
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
	state, err := h.queue.store.Cancel(ctx, h.ID, result, rdb.EndedFor, how)
	if err == nil && state == "" {
		return h.cancelNode(ctx)
	}
	return State(state), err
}

func (h *Handle) known() error {
	if !h.Tracked {
		return fmt.Errorf("%w: give it ResultTTL or Track where it is made", ErrNoResult)
	}
	return nil
}

// Forget removes what is kept of a task that has ended, before ResultTTL is over: its state, and what it has returned. Of a cancelled one
// it stays known that it is, as a worker may still find it in the queue. A dead letter stays, and what a node has returned stays with its
// workflow. The error wraps ErrInvalidTask if the task has not ended (cancel it first, or wait), and ErrUnknownTask or ErrNoResult if
// nothing is known.
func (h *Handle) Forget(ctx context.Context) error {
	if err := h.known(); err != nil {
		return err
	}
	state, err := h.queue.store.Erase(ctx, h.ID)
	switch State(state) {
	case StateQueued, StateScheduled, StateRunning, StateRetrying:
		return fmt.Errorf("%w: task %s of %q has not ended: it is %s; cancel it first, or wait", ErrInvalidTask, h.ID, h.queue.Name(), state)
	case "":
		if err == nil {
			err = h.unknown()
		}
	}
	return err
}

func (h *Handle) unknown() error {
	return fmt.Errorf("%w: %s in %q: what was kept of it has run out (see ResultTTL), or it is elsewhere",
		ErrUnknownTask, h.ID, h.queue.Name())
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
	value, err := wire.NewDecoder([]byte(text)).Anything()
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
