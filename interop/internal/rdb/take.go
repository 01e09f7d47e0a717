package rdb

import (
	"context"
	"strconv"
	"time"
)

// TakeResult is what Take got: task i is held under lease i.
type TakeResult struct {
	Tasks   [][]byte
	Suspect bool // the only task has been lost before
}

// TakeOptions say how to take.
type TakeOptions struct {
	Holder  string        // who takes, for humans: the value of a lease's key
	TTL     time.Duration // of the leases' keys that are made now
	Living  int           // how many of the leases, from the first, have a living key already
	Claims  int           // how many notifications the caller has popped already
	Waiting bool          // take whatever waits; else no more tasks than there are notifications
}

// Take takes up to one task for each lease, together with its notification. The leases are names that nobody else uses and that
// hold nothing now.
func (s *Store) Take(ctx context.Context, leases []string, o TakeOptions) (TakeResult, error) {
	keys := append([]string{s.Keys.Queue, s.Keys.Noti, s.Keys.Processing, s.Keys.Lost}, leases...)
	reply, err := s.Run(ctx, "take", keys, o.arguments()...)
	values, _ := reply.([]any)
	if err != nil || len(values) < 2 {
		return TakeResult{}, err
	}
	return takeResult(values[0], values[1:]), nil
}

func (o TakeOptions) arguments() []string {
	limit := "notified"
	if o.Waiting {
		limit = "waiting"
	}
	return []string{strconv.Itoa(o.Claims), limit, strconv.Itoa(o.Living), o.Holder, Milliseconds(o.TTL)}
}

func takeResult(suspect any, tasks []any) TakeResult {
	taken := TakeResult{Tasks: make([][]byte, len(tasks)), Suspect: suspect == int64(1)}
	for i, task := range tasks {
		taken.Tasks[i] = Bulk(task)
	}
	return taken
}

// TakeLimited is Take within the limits that operators have set for the queue. pause is after how long to ask again, if a limit was
// in the way, and below 0 if the queue is paused. Then a claim of the caller's goes back.
func (s *Store) TakeLimited(ctx context.Context, leases []string, o TakeOptions) (taken TakeResult, pause time.Duration, err error) {
	k := s.Keys
	keys := append([]string{k.Queue, k.Noti, k.Processing, k.Lost, k.Control, k.Bucket}, leases...)
	reply, err := s.Run(ctx, "take_limited", keys, o.arguments()...)
	values, _ := reply.([]any)
	if err != nil || len(values) < 2 {
		return TakeResult{}, 0, err
	}
	milliseconds, _ := values[1].(int64)
	return takeResult(values[0], values[2:]), time.Duration(milliseconds) * time.Millisecond, nil
}

// Beat says that the process which calls itself holder lives for so long, and what it says about itself. It returns whether groups
// have waiting tasks, whether tasks are noted that could not run somewhere, and the fields of Keys.Control: what operators want.
func (s *Store) Beat(
	ctx context.Context, holder string, ttl time.Duration, about []byte,
) (grouped, deferred bool, control map[string]string, err error) {
	k := s.Keys
	keys := []string{k.Own(holder), k.Workers, k.Control, k.Groups, k.Deferred}
	reply, err := s.Run(ctx, "beat", keys, holder, Milliseconds(ttl), string(about))
	values, _ := reply.([]any)
	if err != nil || len(values) == 0 {
		return false, false, nil, err
	}
	flags, _ := values[0].(int64)
	return flags&1 != 0, flags&2 != 0, Fields(values[1:]), nil
}
