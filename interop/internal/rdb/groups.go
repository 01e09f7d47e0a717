package rdb

import (
	"context"
	"strconv"
)

const (
	BatchesReady = 2   // that a queue with groups has ready for a worker: a longer queue would make groups wait
	MostReady    = 256 // tasks, likewise
	FewReady     = 16  // tasks that it has ready at least, whoever works on it
)

// Destination is where a task waits: the list, the list that announces it, and the word that does.
type Destination struct{ List, Announces, Word string }

// Tail is where tasks without a group wait.
func (k Keys) Tail() Destination { return Destination{k.Queue, k.Noti, Notification} }

// GroupTail is where a group's tasks wait.
func (k Keys) GroupTail(group string) Destination {
	name := Digest(group)
	return Destination{k.Group(name), k.Groups, name}
}

// Turn fills the queue up to most tasks from the lists of these groups (named by their SHA-1), which are the first in the rotation:
// one from each, in turns. It returns how many were moved.
func (s *Store) Turn(ctx context.Context, groups []string, most int) (int, error) {
	keys := []string{s.Keys.Queue, s.Keys.Noti, s.Keys.Groups}
	for _, group := range groups {
		keys = append(keys, s.Keys.Group(group))
	}
	return s.count(ctx, "turn", keys, append([]string{strconv.Itoa(most)}, groups...)...)
}

// Regroup moves, of the first most tasks in the schedule, those that are due and belong to one of these groups (named by their SHA-1) to
// its list. It returns how many there were, and which other groups have tasks that are due.
func (s *Store) Regroup(ctx context.Context, groups []string, most int) (moved int, others []string, err error) {
	keys := []string{s.Keys.Queue, s.Keys.Noti, s.Keys.Scheduled, s.Keys.Groups}
	for _, group := range groups {
		keys = append(keys, s.Keys.Group(group))
	}
	reply, err := s.Run(ctx, "regroup", keys, append([]string{strconv.Itoa(most)}, groups...)...)
	values, _ := reply.([]any)
	if err != nil || len(values) == 0 {
		return 0, nil, err
	}
	count, _ := values[0].(int64)
	return int(count), Strings(values[1:]), nil
}

// feedGroups lets tasks of groups that are due wait in their groups, and some in the queue. It returns how many there were.
func (s *Store) feedGroups(ctx context.Context, most int) (moved int, err error) {
	_, groups, err := s.Regroup(ctx, nil, most)
	if err == nil {
		moved, _, err = s.Regroup(ctx, groups, most)
	}
	if err == nil {
		_, err = s.Feed(ctx, FewReady)
	}
	return moved, err
}

// GiveTurn lets groups (named by their SHA-1) have their turns which had no tasks before. The tasks are in Redis: if this fails, a
// worker or a sweeper does it.
func (s *Store) GiveTurn(ctx context.Context, groups ...string) {
	s.Turn(ctx, groups, FewReady) //nolint:errcheck // see above
}

// Feed fills the queue up to most tasks from its groups. False if no group has any.
func (s *Store) Feed(ctx context.Context, most int) (bool, error) {
	reply, err := s.Caller.Call(ctx, "LRANGE", s.Keys.Groups, "0", strconv.Itoa(most-1))
	groups := Strings(reply)
	if err != nil || len(groups) == 0 {
		return false, err
	}
	_, err = s.Turn(ctx, groups, most)
	return true, err
}

const Notification = "1" // what announces a task that waits in the queue itself
