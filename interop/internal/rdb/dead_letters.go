package rdb

import (
	"context"
)

// DeadRetry moves dead letters, as they came, to the end of the queue. It returns how many were there.
func (s *Store) DeadRetry(ctx context.Context, ids []string) (int, error) {
	return s.count(ctx, "dead_retry", []string{s.Keys.Queue, s.Keys.Noti, s.Keys.Dead, s.Keys.Deferred}, ids...)
}

// Revival is a dead letter that shall wait again.
type Revival struct {
	Letter string // its id
	Data   []byte // the task as it shall wait
	ID     string // of a tracked task, or empty
	Unique string // its unique key, or anything
	Bound  int64  // milliseconds that it has its unique key again, or 0
	// When it was enqueued, in milliseconds since 1970, or 0: for the state of a tracked task that has none any more.
	Enqueued int64
}

// ReviveResult is what Queue.Revive says.
type ReviveResult int

// What Queue.Revive says.
const (
	ReviveGone ReviveResult = iota // the letter is not there any more
	ReviveDone
	ReviveBusy // another task has the unique key; nothing has happened
)

// Revive moves one dead letter to the end of the queue; a tracked task waits again. See RetryLetter.
func (s *Store) Revive(ctx context.Context, r Revival) (ReviveResult, error) {
	name := r.ID
	if name == "" {
		name = Token()
	}
	k := s.Keys
	told, entry := s.told(HoldsIn(r.Data).Member, "o", "")
	keys := append([]string{k.Queue, k.Noti, k.Dead, k.Deferred, k.Task(name), k.Unique(r.Unique)}, told...)
	n, err := s.count(ctx, "revive", keys, r.Letter, string(r.Data), r.ID, Milliseconds(TrackedFor), Decimal(r.Bound), Decimal(r.Enqueued), entry)
	return ReviveResult(n), err
}
