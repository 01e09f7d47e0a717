package delayed

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const notification = "1" // what announces a task that waits in the queue itself

// asking is a task that may ask for more than a call.
type asking interface {
	asks() *taskOptions
	serialize(b birth) ([]byte, error)
}

// asksOf is what a task asks for beyond a call, or nil.
func asksOf(task Task) *taskOptions {
	if asking, ok := task.(asking); ok {
		return asking.asks()
	}
	return nil
}

// SubmitOption changes one Submit.
type SubmitOption func(*birth)

// ID names the id of a tracked task, as NewID draws one, by which a Submit can be repeated: while a task with this id is known, nothing
// is enqueued, and the handle is Known.
func ID(id string) SubmitOption { return func(b *birth) { b.id = id } }

// NewID is an id for a tracked task that nobody has used.
func NewID() string { return token() }

// Submit puts a task where its options say, as Enqueue does, and returns its handle. What is submitted twice is there twice, unless it
// has the same ID. If another task has its unique key, the error is a *Duplicate, unless it says Join.
func (q *Queue) Submit(ctx context.Context, task Task, options ...SubmitOption) (*Handle, error) {
	o := asksOf(task)
	var named birth
	for _, option := range options {
		option(&named)
	}
	switch {
	case len(options) == 0:
	case !isID(named.id):
		return nil, fmt.Errorf("%w: an id has 16 characters of A-Z, a-z, 0-9, - and _, as NewID draws one; not %.100q", ErrInvalidTask, named.id)
	case !o.tracked():
		return nil, fmt.Errorf("%w: only a tracked task has an id: give it ResultTTL, or Track", ErrInvalidTask)
	}
	b, err := q.birth(ctx, o, named.id)
	if err != nil {
		return nil, err
	}
	data, err := q.serialize(task, b)
	if err != nil {
		return nil, err
	}
	if !o.submits() {
		return q.handle("", false, task), q.enqueue(ctx, []string{data})
	}
	return q.submit(ctx, task, data, o, b)
}

// birth is what a task gets that is enqueued now, under a new id if none is given.
func (q *Queue) birth(ctx context.Context, o *taskOptions, id string) (birth, error) {
	if o == nil {
		return birth{}, nil
	}
	if id == "" {
		id = token()
	}
	if o.expiresIn == nil {
		return birth{id, q.time.now()}, nil
	}
	now, err := q.clock(ctx)
	if err != nil {
		err = fmt.Errorf("delayed: asking for the server's time, before anything was enqueued: %w", certain(err))
	}
	return birth{id, now}, err
}

// submit puts one task into the queue that asks for more than a place at the tail.
func (q *Queue) submit(ctx context.Context, task Task, data string, o *taskOptions, b birth) (*Handle, error) {
	unique := ""
	var due, delay, tracked, bound int64
	if o.at != nil {
		due = epoch(*o.at)
	}
	if o.after != nil {
		delay = rounded(*o.after)
	}
	id := ""
	if o.tracked() {
		tracked, id = rounded(trackedFor), b.id
	}
	if o.unique != nil {
		unique = *o.unique
		if o.mode != WhileRunning {
			bound = rounded(o.bound)
		}
	}
	k := q.Keys
	to := k.spotOf(o)
	keys := []string{to.list, to.announces, k.Scheduled, k.Wake, k.Task(b.id), k.Unique(unique)}
	reply, err := q.add(ctx, "submit", keys, data, b.id, decimal(due), decimal(delay), decimal(tracked), decimal(bound), to.word)
	values, _ := reply.([]any)
	if err != nil || len(values) != 2 {
		return nil, err
	}
	switch string(bulk(values[0])) {
	case "first":
		q.itsTurn(ctx, to)
	case "known":
		return q.handle(id, true, task), nil
	case "duplicate":
		other := string(bulk(values[1]))
		if !o.join {
			return nil, &Duplicate{q.Name(), other}
		}
		return q.handle(other, true, task), nil
	}
	return q.handle(id, false, task), nil
}

// Fate is what becomes of a unique key when its task begins.
type Fate string

// The fates.
const (
	TakeKey  Fate = "take"
	FreeKey  Fate = "free"
	LeaveKey Fate = "leave"
)

// Start is what Queue.Start and Queue.Acquire say.
type Start int

// What they say.
const (
	StartSuperseded Start = iota // the lease does not hold the task any more
	StartBegins
	StartCancelled // somebody has cancelled the task
	StartBusy      // another task has the unique key
	StartFull      // as many tasks with its concurrency key run as may
)

// Beginning is a tracked task that begins.
type Beginning struct {
	ID, Unique string // the task's, and its unique key or anything
	Fate       Fate
	Bound      time.Duration // that the key stays taken
	Worker     string        // who begins
	Attempt    int64         // which this is, counted from 1
}

// Start says that a tracked task begins under a lease, unless it may not. Its state is kept for trackedFor.
func (q *Queue) Start(ctx context.Context, lease string, b Beginning) (Start, error) {
	keys := []string{q.Keys.Processing, q.Keys.Task(b.ID), q.Keys.Unique(b.Unique)}
	n, err := q.count(ctx, "start", keys, lease, b.ID, string(b.Fate), milliseconds(b.Bound), b.Worker, decimal(epoch(time.Now())),
		milliseconds(trackedFor), decimal(b.Attempt))
	return Start(n), err
}

// Conclusion is how a tracked task ended.
type Conclusion struct {
	ID, Unique string // the task's, and its unique key or anything
	State      State
	Result     []byte        // what those who wait are told
	Keep       time.Duration // that this is kept
	Reason     Reason        // of its dead letter; empty for none
	Detail     string
	Worker     string // who ends it
	Error      string // what a task that failed said
}

func (q *Queue) concluding(lease string, c Conclusion) (keys, args []string) {
	k := q.Keys
	keys = []string{k.Processing, k.Lost, k.Dead, k.Task(c.ID), k.Result(c.ID), k.Unique(c.Unique)}
	return keys, []string{lease, c.ID, string(c.State), string(c.Result), decimal(rounded(c.Keep)), string(c.Reason), c.Detail,
		c.Worker, c.Error}
}

// Conclude ends the lease of a tracked task: it stores how the task ended, and makes it a dead letter if there is a reason. False if
// the caller was superseded.
func (q *Queue) Conclude(ctx context.Context, lease string, c Conclusion) (bool, error) {
	keys, args := q.concluding(lease, c)
	n, err := q.count(ctx, "conclude", keys, args...)
	return n == 1, err
}

// postponing is told whether an attempt has failed (StateRetrying), or none has begun (StateScheduled).
func (q *Queue) postponing(
	lease string, data []byte, id string, state State, to spot, delay time.Duration, why string,
) (keys, args []string) {
	if id == "" {
		id, state = token(), ""
	}
	k := q.Keys
	keys = []string{to.list, to.announces, k.Processing, k.Lost, k.Scheduled, k.Wake, k.Task(id)}
	return keys, []string{lease, string(data), id, decimal(rounded(delay)), string(state), why, to.word}
}

// Postpone ends a lease: its task waits again, as data, after a delay. id is that of a tracked task, or empty; failure is what the
// attempt said. False if the caller was superseded.
func (q *Queue) Postpone(ctx context.Context, lease string, data []byte, id string, delay time.Duration, failure string) (bool, error) {
	keys, args := q.postponing(lease, data, id, StateRetrying, q.Keys.tail(), delay, failure)
	n, err := q.count(ctx, "postpone", keys, args...)
	return n == 1, err
}

// Cancel cancels a tracked task; result is what those who wait are told, and is kept for so long. how is what a running task is told:
// "1", or "hard" if its process shall end with it. It returns the state in which the task was, or nothing if no such task is known.
// See Handle.Cancel.
func (q *Queue) Cancel(ctx context.Context, id string, result []byte, keep time.Duration, how string) (State, error) {
	reply, err := q.caller.call(ctx, "HGET", q.Keys.Task(id), "unique")
	if err != nil {
		return "", err
	}
	key := q.Keys.Unique("")
	if name := bulk(reply); name != nil {
		key = string(name)
	}
	keys := []string{q.Keys.Scheduled, q.Keys.Task(id), q.Keys.Result(id), key}
	reply, err = q.run(ctx, "cancel", keys, id, string(result), milliseconds(keep), how)
	return State(bulk(reply)), err
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
