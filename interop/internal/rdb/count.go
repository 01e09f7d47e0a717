package rdb

import (
	"context"
	"strconv"
	"time"
)

const day = 86_400 // seconds

// tiers are the grains of time of the statistics: what a key is called, seconds of a row, and rows of a key.
var tiers = [...]struct {
	name          string
	seconds, rows int64
}{{"minutes", 60, 60}, {"hours", 3600, 24}, {"days", day, 30}}

// Count adds what a worker has counted to the queue's statistics: words are a function's path and its counts in turn. chance is drawn
// evenly from above 0 to 1, for functions that compete for a place.
func (s *Store) Count(ctx context.Context, moment time.Time, chance float64, words []string) error {
	now := moment.Unix()
	keys := []string{s.Keys.StatsTotal}
	args := make([]string, 0, 5+len(words))
	for _, tier := range tiers {
		keys = append(keys, s.Keys.Queue+"_stats_"+tier.name+"_"+strconv.FormatInt(now/(tier.seconds*tier.rows), 10))
		args = append(args, strconv.FormatInt(now/tier.seconds%tier.rows, 10))
	}
	args = append(args, strconv.FormatInt(now/day, 10), strconv.FormatFloat(chance, 'g', -1, 64))
	_, err := s.Run(ctx, "count", keys, append(args, words...)...)
	return err
}
