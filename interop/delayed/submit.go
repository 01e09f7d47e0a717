package delayed

import (
	"cmp"
	"context"
	"fmt"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

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
func NewID() string { return rdb.Token() }

// Submit puts a task where its options say, as Enqueue does, and returns its handle. What is submitted twice is there twice, unless it
// has the same ID. If another task has its unique key, the error is a *Duplicate, unless it says Join.
func (q *Queue) Submit(ctx context.Context, task Task, options ...SubmitOption) (*Handle, error) {
	if q.around == nil {
		return q.submitOne(ctx, task, options)
	}
	var handle *Handle
	err := q.within(ctx, &Sending{Queue: q.Name(), Path: task.FuncPath()}, func(ctx context.Context, s *Sending) (err error) {
		if handle, err = q.submitOne(ctx, task, options); err == nil {
			s.ID, s.Count = handle.ID, 1
		}
		return err
	})
	return handle, err
}

func (q *Queue) submitOne(ctx context.Context, task Task, options []SubmitOption) (*Handle, error) {
	o := asksOf(task)
	var named birth
	for _, option := range options {
		option(&named)
	}
	switch {
	case len(options) == 0:
	case !wire.IsID(named.id):
		return nil, fmt.Errorf("%w: an id has 16 characters of A-Z, a-z, 0-9, - and _, as NewID draws one; not %.100q", ErrInvalidTask, named.id)
	case !o.tracked():
		return nil, fmt.Errorf("%w: only a tracked task has an id: give it ResultTTL, or Track", ErrInvalidTask)
	}
	b, data, err := q.born(ctx, task, named.id)
	if err != nil {
		return nil, err
	}
	if !o.submits() {
		return q.handle(o.identity(b), false, task), q.enqueue(ctx, []string{data})
	}
	return q.submit(ctx, task, data, o, b)
}

// born is a task that is enqueued now: what it gets, and its bytes.
func (q *Queue) born(ctx context.Context, task Task, id string) (birth, string, error) {
	b, err := q.birth(ctx, asksOf(task), id)
	if err != nil {
		return b, "", err
	}
	b.trace = q.traceIn(ctx)
	data, err := q.serialize(task, b)
	return b, data, err
}

// birth is what a task gets that is enqueued now: of what it needs, and under a new id if none is given.
func (q *Queue) birth(ctx context.Context, o *taskOptions, id string) (birth, error) {
	if id == "" && (o.tracked() || o != nil && o.identified) {
		id = rdb.Token()
	}
	switch {
	case o == nil || !o.tracked() && o.expiresIn == nil: // nobody looks at the clock
		return birth{id: id}, nil
	case o.expiresIn == nil:
		return birth{id: id, at: q.clock.Now()}, nil
	}
	now, err := q.serverTime(ctx)
	if err != nil {
		err = fmt.Errorf("delayed: asking for the server's time, before anything was enqueued: %w", rdb.Certain(err))
	}
	return birth{id: id, at: now}, err
}

// submit puts one task into the queue that asks for more than a place at the tail.
func (q *Queue) submit(ctx context.Context, task Task, data string, o *taskOptions, b birth) (*Handle, error) {
	unique := ""
	var due, delay, tracked, bound int64
	if o.at != nil {
		due = rdb.Epoch(*o.at)
	}
	if o.after != nil {
		delay = rdb.Rounded(*o.after)
	}
	if o.rateKey != nil {
		at, err := q.reserved(ctx, o, due, delay)
		if err != nil {
			return nil, err
		}
		due, delay = at, 0
	}
	id, mark := o.identity(b), cmp.Or(b.id, rdb.Token()) // what waits for its time has a mark, so that those of the same bytes are two
	if o.tracked() {
		tracked = rdb.Rounded(rdb.TrackedFor)
	}
	if o.unique != nil {
		unique = *o.unique
		if o.mode != WhileRunning {
			bound = rdb.Rounded(o.bound)
		}
	}
	k := q.store.Keys
	to := destinationOf(k, o)
	keys := []string{to.List, to.Announces, k.Scheduled, k.Wake, k.Task(mark), k.Unique(unique)}
	reply, err := q.add(ctx, "submit", keys, data, mark, rdb.Decimal(due), rdb.Decimal(delay), rdb.Decimal(tracked), rdb.Decimal(bound), to.Word)
	values, _ := reply.([]any)
	if err != nil || len(values) != 2 {
		return nil, err
	}
	switch string(rdb.Bulk(values[0])) {
	case "first":
		q.store.GiveTurn(ctx, to.Word)
	case "known":
		return q.handle(id, true, task), nil
	case "duplicate":
		other := string(rdb.Bulk(values[1]))
		if !o.join {
			return nil, &Duplicate{q.Name(), other}
		}
		return q.handle(other, true, task), nil
	}
	return q.handle(id, false, task), nil
}

// reserved is the instant of its rate key at which a task may begin, in milliseconds since 1970.
func (q *Queue) reserved(ctx context.Context, o *taskOptions, due, delay int64) (int64, error) {
	if delay > 0 {
		now, err := q.serverTime(ctx)
		if err != nil {
			return 0, fmt.Errorf("delayed: asking for the server's time, before anything was enqueued: %w", rdb.Certain(err))
		}
		due = rdb.Epoch(now) + delay
	}
	at, err := q.store.Reserve(ctx, *o.rateKey, o.rate, due)
	if err != nil {
		return 0, fmt.Errorf("delayed: reserving an instant of the rate key, before anything was enqueued: %w", rdb.Certain(err))
	}
	return at, nil
}
