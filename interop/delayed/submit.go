package delayed

import (
	"context"
	"fmt"
	"slices"
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

// Start is what Queue.Start says.
type Start int

// What it says.
const (
	StartSuperseded Start = iota // the lease does not hold the task any more
	StartBegins
	StartCancelled // somebody has cancelled the task
	StartBusy      // another task has the unique key: this one waits for it, and the lease holds nothing any more
	StartFull      // as many tasks with its concurrency key run as may: likewise
)

// Beginning is a task that begins which is tracked or has a concurrency key.
type Beginning struct {
	Holds   Holds
	Bound   time.Duration // that a unique key stays taken which it takes now
	Worker  string        // who begins
	Attempt int64         // which this is, counted from 1
	Group   *string       // whose task it is, if it has a group
}

// Start says that a task begins under a lease, unless it may not. Its state is kept for trackedFor.
func (q *Queue) Start(ctx context.Context, lease string, b Beginning) (Start, error) {
	mark := b.Holds.ID
	if mark == "" {
		mark = token()
	}
	if b.Group != nil {
		mark += ":" + digest(*b.Group)
	}
	n, err := q.count(ctx, "start", q.Keys.ending(b.Holds, q.Keys.Bucket), lease, b.Holds.word(), b.Holds.fate(), milliseconds(b.Bound),
		b.Worker, decimal(epoch(time.Now())), milliseconds(trackedFor), decimal(b.Attempt), decimal(b.Holds.Limit), mark)
	return Start(n), err
}

// Conclusion is how a tracked task ended.
type Conclusion struct {
	Holds  Holds
	State  State
	Result []byte        // what those who wait are told
	Keep   time.Duration // that this is kept
	Reason Reason        // of its dead letter; empty for none
	Detail string
	Worker string // who ends it
	Error  string // what a task that failed said
}

func (q *Queue) concluding(lease string, c Conclusion) (keys, args []string) {
	keys = q.Keys.ending(c.Holds, q.Keys.Lost, q.Keys.Dead)
	return keys, []string{lease, c.Holds.word(), string(c.State), string(c.Result), decimal(rounded(c.Keep)), string(c.Reason), c.Detail,
		c.Worker, c.Error}
}

// Conclude ends the lease of a tracked task: it stores how the task ended, frees what it held, and makes it a dead letter if there is a
// reason. False if the caller was superseded.
func (q *Queue) Conclude(ctx context.Context, lease string, c Conclusion) (bool, error) {
	keys, args := q.concluding(lease, c)
	n, err := q.count(ctx, "conclude", keys, args...)
	return n == 1, err
}

// keptFor is for how long the state of a task is kept that goes on waiting, as scripts have it, and the id that stands before it then.
func keptFor(h Holds) (kept, id string) {
	if h.ID == "" {
		return "0", token()
	}
	return milliseconds(trackedFor), h.ID
}

func (q *Queue) postponing(lease string, data []byte, h Holds, to spot, delay time.Duration, why string) (keys, args []string) {
	k := q.Keys
	kept, id := keptFor(h)
	keys = k.ending(h.whileRunning(), k.Lost, k.Scheduled, k.Wake, to.list, to.announces)
	return keys, []string{lease, string(data), id, decimal(rounded(delay)), kept, why, to.word}
}

// Postpone ends a lease: its task waits again, as data, after a delay; failure is what the attempt said. What it held while it ran is
// free. False if the caller was superseded.
func (q *Queue) Postpone(ctx context.Context, lease string, data []byte, h Holds, delay time.Duration, failure string) (bool, error) {
	keys, args := q.postponing(lease, data, h, q.Keys.tail(), delay, failure)
	n, err := q.count(ctx, "postpone", keys, args...)
	return n == 1, err
}

// Deferred is what Queue.Defer says.
type Deferred int

// What it says.
const (
	DeferSuperseded Deferred = iota // the lease does not hold the task any more
	DeferDone                       // the task waits
	DeferOver                       // it has waited for as long as it may; nothing has happened
)

func (q *Queue) deferring(lease string, h Holds, to spot, limit time.Duration, cause string) (keys, args []string) {
	k := q.Keys
	kept, id := keptFor(h)
	keys = k.ending(h.whileRunning(), k.Scheduled, k.Wake, k.Deferred, k.Bucket)
	return keys, []string{lease, id, kept, decimal(rounded(limit)), to.word, cause}
}

// deferredOf is the reply to the script defer: what it says, the time until the task is tried again, and the time since it was deferred
// first.
func deferredOf(reply any) (said Deferred, pause, age time.Duration) {
	var n [3]int64
	values, _ := reply.([]any)
	for i, value := range values[:min(len(values), len(n))] {
		n[i], _ = value.(int64)
	}
	return Deferred(n[0]), time.Duration(n[1]) * time.Millisecond, time.Duration(n[2]) * time.Millisecond
}

// Defer ends a lease whose task cannot run here and now, and may elsewhere or later: it waits, unchanged, and longer each time, until limit
// is over, counted from the first time. cause is why, for its state.
func (q *Queue) Defer(
	ctx context.Context, lease string, h Holds, group *string, limit time.Duration, cause string,
) (said Deferred, pause, age time.Duration, err error) {
	to := q.Keys.tail()
	if group != nil {
		to = q.Keys.within(*group)
	}
	keys, args := q.deferring(lease, h, to, limit, cause)
	reply, err := q.run(ctx, "defer", keys, args...)
	said, pause, age = deferredOf(reply)
	return said, pause, age, err
}

// Progress stores how far a tracked task says that it is (MessagePack: done, total, note). False if its state is not known any more.
func (q *Queue) Progress(ctx context.Context, id string, packed []byte) (bool, error) {
	n, err := q.count(ctx, "progress", []string{q.Keys.Task(id)}, string(packed))
	return n == 1, err
}

// Cancel cancels a tracked task; result is what those who wait are told, and is kept for so long. how is what a running task is told:
// "1", or "hard" if its process shall end with it. It returns the state in which the task was, or nothing if no such task is known.
// See Handle.Cancel.
func (q *Queue) Cancel(ctx context.Context, id string, result []byte, keep time.Duration, how string) (State, error) {
	k := q.Keys
	reply, err := q.caller.call(ctx, "HMGET", k.Task(id), "unique", "place")
	values, _ := reply.([]any)
	if err != nil || len(values) != 2 {
		return "", err
	}
	place, own := k.Scheduled, k.own(Holds{ID: id})
	if key := string(bulk(values[0])); k.ownsUnique(key) {
		own[2], own[3] = key, k.WaitsForUnique(key)
	}
	if key := string(bulk(values[1])); k.ownsWaits(key) {
		place = key
	}
	keys := slices.Concat(k.home(), []string{place}, own)
	reply, err = q.run(ctx, "cancel", keys, id, string(result), milliseconds(keep), how, milliseconds(trackedFor))
	return State(bulk(reply)), err
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
