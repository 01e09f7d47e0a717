package rdb

import (
	"context"
	"strconv"
	"time"
)

const WaitingPage = 50 // elements of a list or a schedule that are read at once

// DueResult is what Due found.
type DueResult struct {
	First int           // index of the first queue that has waiting tasks, or -1
	Moved int           // tasks that were due
	Pause time.Duration // until the next task is due; 0 if more are due now, negative if nothing is scheduled
}

// Due moves up to most tasks that are due to their queues, or to the lists of their groups, and looks which of the queues has waiting
// tasks. They are on this queue's server (and, on a cluster, in its slot).
func (s *Store) Due(ctx context.Context, queues []*Store, most int) (DueResult, error) {
	keys := make([]string, 0, 3*len(queues))
	for _, each := range queues {
		keys = append(keys, each.Keys.Queue, each.Keys.Noti, each.Keys.Scheduled)
	}
	n, err := s.numbers(ctx, "due", keys, strconv.Itoa(most), "leave")
	moved := n[1]
	if err == nil && n[3] > 0 {
		var back int
		if back, err = queues[n[3]-1].Over(s.Caller).feedGroups(ctx, most); err == nil {
			n, err = s.numbers(ctx, "due", keys, strconv.Itoa(most), "leave")
			moved += back + n[1]
		}
	}
	if err != nil {
		return DueResult{First: -1, Pause: -1}, err
	}
	return DueResult{First: n[0] - 1, Moved: moved, Pause: time.Duration(n[2]) * time.Millisecond}, nil
}

// Move lets a member of the schedule wait for another time; unique is the task's unique key, or anything. See MoveWaiting.
func (s *Store) Move(ctx context.Context, member string, due time.Time, unique string) (bool, error) {
	k := s.Keys
	keys := []string{k.Scheduled, k.Wake, k.Task(member[:min(len(member), 16)]), k.Unique(unique)}
	n, err := s.count(ctx, "move", keys, member, Decimal(max(due.UnixMilli(), 1)), Milliseconds(TrackedFor))
	return n == 1, err
}

// ListPage is a part of a list.
func (s *Store) ListPage(ctx context.Context, key string, start int) ([][]byte, error) {
	reply, err := s.Caller.Call(ctx, "LRANGE", key, strconv.Itoa(start), strconv.Itoa(start+WaitingPage-1))
	items, _ := reply.([]any)
	page := make([][]byte, len(items))
	for i, item := range items {
		page[i] = Bulk(item)
	}
	return page, err
}
