package delayed

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// Place is where a task waits.
type Place string

// Where a task waits.
const (
	InQueue  Place = "queue"
	InGroup  Place = "group"
	ForKey   Place = "key" // until another task with its unique or concurrency key has ended
	Schedule Place = "scheduled"
)

// Waiting is a task that waits, for its time or for a worker.
type Waiting struct {
	ID      string    // of a task that has one; in the schedule each has; else empty
	Where   Place     // in the queue, in a group, for a key, or in the schedule
	Due     time.Time // in the schedule
	Task    string    // function path; empty if the bytes are no task
	Data    []byte    // the task
	Tracked bool

	key, member string // where it waits, and how it stands there
}

// Waiting are the tasks that wait in the queue, in its groups, for keys and in its schedule (in these places; in all if none is named),
// each in their order. They are read a page at a time, and while that goes on others may come and go. An error ends them.
func (q *Queue) Waiting(ctx context.Context, places ...Place) iter.Seq2[Waiting, error] {
	if len(places) == 0 {
		places = []Place{InQueue, InGroup, ForKey, Schedule}
	}
	return func(yield func(Waiting, error) bool) {
		for _, place := range places {
			var err error
			goesOn := true
			next := func(waits Waiting) bool {
				goesOn = yield(waits, nil)
				return goesOn
			}
			switch place {
			case InGroup:
				err = q.inGroups(ctx, next)
			case ForKey:
				err = q.forKeys(ctx, next)
			case Schedule:
				_, err = q.inOrder(ctx, q.store.Keys.Scheduled, Schedule, next)
			default:
				err = q.inList(ctx, q.store.Keys.Queue, InQueue, next)
			}
			if err != nil {
				yield(Waiting{}, err)
			}
			if err != nil || !goesOn {
				return
			}
		}
	}
}

func (q *Queue) inList(ctx context.Context, key string, place Place, next func(Waiting) bool) error {
	for start := 0; ; start += rdb.WaitingPage {
		page, err := q.store.ListPage(ctx, key, start)
		for _, data := range page {
			waits := Waiting{Where: place, Data: data, key: key, member: string(data)}
			var headers wire.Headers
			waits.Task, headers, _ = wire.Peek(data)
			waits.ID = headers.AnyID()
			waits.Tracked = headers.TrackedID() != ""
			if !next(waits) {
				return nil
			}
		}
		if err != nil || len(page) < rdb.WaitingPage {
			return err
		}
	}
}

func (q *Queue) inGroups(ctx context.Context, next func(Waiting) bool) error {
	for start := 0; ; start += rdb.WaitingPage {
		page, err := q.store.ListPage(ctx, q.store.Keys.Groups, start)
		if err != nil {
			return err
		}
		for _, group := range page {
			goesOn := true
			err := q.inList(ctx, q.store.Keys.Group(string(group)), InGroup, func(waits Waiting) bool {
				goesOn = next(waits)
				return goesOn
			})
			if err != nil || !goesOn {
				return err
			}
		}
		if len(page) < rdb.WaitingPage {
			return nil
		}
	}
}

func (q *Queue) forKeys(ctx context.Context, next func(Waiting) bool) error {
	for cursor := "0"; ; {
		reply, err := q.store.Caller.Call(ctx, "HSCAN", q.store.Keys.Waited, cursor, "COUNT", strconv.Itoa(rdb.WaitingPage))
		page, _ := reply.([]any)
		if err != nil || len(page) != 2 {
			return err
		}
		fields, _ := page[1].([]any)
		for i := 0; i < len(fields); i += 2 {
			if name := string(rdb.Bulk(fields[i])); rdb.IsDigest(name) {
				if goesOn, err := q.inOrder(ctx, q.store.Keys.Waits(name), ForKey, next); err != nil || !goesOn {
					return err
				}
			}
		}
		if cursor = string(rdb.Bulk(page[0])); cursor == "0" {
			return nil
		}
	}
}

// inOrder reads a sorted set, and says whether to go on after it.
func (q *Queue) inOrder(ctx context.Context, key string, place Place, next func(Waiting) bool) (bool, error) {
	for start := 0; ; start += rdb.WaitingPage {
		reply, err := q.store.Caller.Call(ctx, "ZRANGE", key, strconv.Itoa(start), strconv.Itoa(start+rdb.WaitingPage-1), "WITHSCORES")
		if err != nil {
			return false, err
		}
		page, _ := reply.([]any)
		count := 0
		for i := 0; i < len(page); count++ {
			member, score := page[i], any(nil)
			if pair, ok := member.([]any); ok && len(pair) == 2 { // RESP3
				member, score, i = pair[0], pair[1], i+1
			} else {
				score, i = page[min(i+1, len(page)-1)], i+2
			}
			waits := scheduled(rdb.Bulk(member), scoreOf(score))
			waits.key, waits.Where = key, place
			if place != Schedule {
				waits.Due = time.Time{}
			}
			if !next(waits) {
				return false, nil
			}
		}
		if count < rdb.WaitingPage {
			return true, nil
		}
	}
}

// scoreOf is a score, in the form of RESP2 or of RESP3.
func scoreOf(reply any) float64 {
	if score, ok := reply.(float64); ok {
		return score
	}
	score, _ := strconv.ParseFloat(string(rdb.Bulk(reply)), 64)
	return score
}

// scheduled is a member of the schedule, with its score.
func scheduled(member []byte, score float64) Waiting {
	waits := Waiting{Where: Schedule, member: string(member), ID: string(member[:min(len(member), 16)])}
	rest := member[len(waits.ID):]
	if len(rest) > 0 && rest[0] == ':' { // of a group
		rest = rest[min(len(rest), 41):]
	}
	waits.Data = rest
	waits.Due = time.UnixMilli(int64(score))
	var headers wire.Headers
	waits.Task, headers, _ = wire.Peek(rest)
	waits.Tracked = waits.ID == headers.TrackedID()
	if uid := headers.UntrackedID(); uid != "" && !waits.Tracked { // a retry waits under an id of its own
		waits.ID = uid
	}
	return waits
}

// CancelWaiting lets a task not begin that waits. A tracked one has been cancelled for those who wait for it. False if it does not wait
// any more, or waits in a queue and is not tracked: then it cannot be cancelled.
func (q *Queue) CancelWaiting(ctx context.Context, waits Waiting) (bool, error) {
	if waits.Tracked {
		state, err := q.Handle(waits.ID).Cancel(ctx)
		if err == nil {
			return state == StateQueued || state == StateScheduled || state == StateRetrying, nil
		}
		if !errors.Is(err, ErrUnknownTask) { // else what was kept of it has run out
			return false, err
		}
	}
	if waits.Where != Schedule && waits.Where != ForKey {
		return false, nil
	}
	reply, err := q.store.Caller.Call(ctx, "ZREM", waits.key, waits.member)
	n, _ := reply.(int64)
	return n == 1, err
}

// MoveWaiting lets a task in the schedule wait for another time; what has passed is now. False if it is not there any more.
func (q *Queue) MoveWaiting(ctx context.Context, waits Waiting, due time.Time) (bool, error) {
	if waits.Where != Schedule {
		return false, nil
	}
	_, headers, _ := wire.Peek(waits.Data)
	unique, _, _ := headers.UniqueKey()
	return q.store.Move(ctx, waits.member, due, unique)
}
