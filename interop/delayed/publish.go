package delayed

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/interest"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// Interest is what a queue wants to get of what is published.
type Interest struct {
	Queue    string
	Match    [][2]string // pairs of a pattern for the key of an entry and one for its value: one that fits is enough
	Function string      // the path of the function that is called with what was published
	Retry    int         // how often a failed call is repeated
}

// Everything is the Match of a queue that wants whatever has an entry.
func Everything() [][2]string { return [][2]string{{"*", "*"}} }

// Copy is a copy of what was published.
type Copy struct {
	Queue string
	ID    string // which logs and dead letters show
}

// Publish puts a copy of data into each queue that has an interest in it, all or none of them. What an operator has changed about interests
// before it is called counts. data is mostly a map, or a struct, which travels as a map of its exported fields; its entries are held
// against the patterns. The copies stand in the order in which the queues had their first interest; none if nobody is interested. Errors
// are those of Enqueue.
func (q *Queue) Publish(ctx context.Context, data any) ([]Copy, error) {
	if q.around == nil {
		return q.publishCopies(ctx, data)
	}
	var copies []Copy
	err := q.within(ctx, &Sending{}, func(ctx context.Context, s *Sending) (err error) {
		copies, err = q.publishCopies(ctx, data)
		s.Count = len(copies)
		return err
	})
	return copies, err
}

func (q *Queue) publishCopies(ctx context.Context, data any) ([]Copy, error) {
	packed, entries, err := publication(data)
	if err != nil {
		return nil, err
	}
	for {
		table := q.interests.Load()
		keys, args, copies := []string{q.store.Interests()}, []string{table.Version}, []Copy(nil)
		for _, each := range table.Fitting(entries) {
			own, err := rdb.NewKeys(each.Queue)
			if err != nil {
				return nil, err
			}
			copied := Copy{each.Queue, rdb.Token()}
			task, err := q.copyFor(each, packed, birth{id: copied.ID, trace: q.traceIn(ctx)})
			if err != nil {
				return nil, err
			}
			keys, args, copies = append(keys, own.Queue, own.Noti), append(args, task), append(copies, copied)
		}
		others, err := q.publish(ctx, keys, args)
		if err != nil {
			return nil, err
		}
		if others == nil {
			return copies, nil
		}
		q.interests.Store(others)
	}
}

// publication is what is published, and its entries.
func publication(data any) (wire.Raw, []interest.Entry, error) {
	packed, err := wire.Encode(data, false)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: what is published: %w", ErrNotEncodable, err)
	}
	entries, err := interest.Entries(packed)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrInvalidTask, err)
	}
	return packed, entries, err
}

// copyFor is the task by which a queue gets what is published.
func (q *Queue) copyFor(i *interest.Interest, packed wire.Raw, b birth) (string, error) {
	o := &taskOptions{identified: true, retry: i.Retry}
	if i.Retry != 0 {
		pauses := Exponential(time.Second).Capped(longestRetry)
		o.backoff = &pauses
	}
	if strings.Contains(i.Function, wire.Separator) {
		return q.serialize(&PyTask{path: i.Function, args: []any{packed}, options: o}, b)
	}
	return q.serialize(&GoTask{path: i.Function, args: []any{packed}, options: o}, b)
}

// publish calls the script. It returns the interests, if there are others than the caller knows: nothing has happened.
func (q *Queue) publish(ctx context.Context, keys, args []string) (*interest.Table, error) {
	reply, err := q.add(ctx, "publish", keys, args...)
	if err != nil {
		return nil, err
	}
	if fields := rdb.Others(reply); fields != nil {
		return interest.NewTable(fields), nil
	}
	return nil, nil //nolint:nilnil // the caller knows them all
}

// Interests are all interests there are (on a cluster, of the queues with the same {tag}), in the order in which the queues had their first.
func (q *Queue) Interests(ctx context.Context) ([]Interest, error) {
	others, err := q.publish(ctx, []string{q.store.Interests()}, []string{q.interests.Load().Version})
	if err != nil {
		return nil, err
	}
	if others != nil {
		q.interests.Store(others)
	}
	var found []Interest
	for _, each := range q.interests.Load().Interests {
		found = append(found, Interest{each.Queue, each.Match, each.Function, each.Retry})
	}
	return found, nil
}

// SetInterest says that from now on this queue gets a copy of what is published and fits; this replaces what was set before. A pattern is a
// glob (`order.*`), `exact:…` or `regex:…`, which is searched. function is the path of what workers call with what was published, and retry
// how often a failed call is repeated. The error wraps ErrConfiguration.
func (q *Queue) SetInterest(ctx context.Context, match [][2]string, function string, retry int) error {
	i := &interest.Interest{Queue: q.Name(), Match: match, Function: function, Retry: retry}
	if err := i.Prepare(); err != nil {
		return err
	}
	packed, err := i.Pack()
	if err != nil {
		return err
	}
	reply, err := q.store.SetInterest(ctx, packed, interest.MostQueues)
	if err == nil && reply < 0 {
		err = fmt.Errorf("%w: %d queues have an interest already: remove one (`delayed interest remove`)", ErrConfiguration, interest.MostQueues)
	}
	return err
}

// RemoveInterest is the opposite, at once. It reports whether this queue had an interest.
func (q *Queue) RemoveInterest(ctx context.Context) (bool, error) {
	reply, err := q.store.SetInterest(ctx, "", interest.MostQueues)
	return reply == 1, err
}

// Publish puts a copy of data into each queue that has an interest in it, whoever serves that: see Queue.Publish.
func (a *App) Publish(ctx context.Context, data any) ([]Copy, error) {
	queue, err := a.queueNamed(a.options.Prefix + a.options.Queue)
	if err != nil {
		return nil, err
	}
	return queue.Publish(ctx, data)
}
