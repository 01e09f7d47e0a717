package rdb

import (
	"context"
	"slices"
)

// RemoveWaiting removes tasks that wait in one place of the queue, as they stand there: its list, the schedule, or a set of those that wait
// for a key. A tracked one is cancelled, and what it holds is free.
func (s *Store) RemoveWaiting(ctx context.Context, place string, result []byte, members ...[]byte) error {
	k := s.Keys
	keys, args := append(k.home(), k.Groups, place, k.History, k.Control), []string{string(result), Milliseconds(EndedFor), Place()}
	for _, member := range members {
		data := member
		if place != k.Queue { // behind an id of 16 characters
			data = ungrouped(member[min(16, len(member)):])
		}
		h := HoldsIn(data)
		h.Slots, h.Limit = "", 0 // it takes its slot when it begins
		told, entry := s.told(h.Member, "e", "c")
		if h.ID != "" {
			keys = slices.Concat(keys, k.Held(h), told)
		}
		args = append(args, h.ID, entry, string(member))
	}
	_, err := s.Run(ctx, "remove", keys, args...)
	return err
}

// IsPlace reports whether tasks of the queue wait under this key: for their time, or for one of its keys.
func (k Keys) IsPlace(key string) bool {
	return key == k.Queue || key == k.Scheduled || k.ownsWaits(key)
}
