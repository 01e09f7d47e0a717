package rdb

import (
	"context"
	"strconv"
)

// interests is the hash of the interests of queues: a queue → its place and what it wants to get of what is published (MessagePack).
const interests = "delayed:interests"

// Interests is the key of the interests of this queue and of others. On a cluster there is one for each hash tag.
func (s *Store) Interests() string { return s.shared(interests) }

// SetInterest notes in what this queue has an interest, or, if record is empty, forgets it. It returns 1; 0 if it had none; -1 if most
// queues have one.
func (s *Store) SetInterest(ctx context.Context, record string, most int) (int, error) {
	return s.count(ctx, "interest", []string{s.Interests()}, s.Keys.Queue, record, Token(), strconv.Itoa(most))
}

// Others are the fields of the interests and their values, which publish returns if there are others than its caller knows; else nil.
func Others(reply any) map[string]string {
	if _, done := reply.(int64); done || reply == nil {
		return nil
	}
	return Fields(reply)
}
