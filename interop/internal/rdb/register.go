package rdb

import (
	"context"
	"regexp"
	"strconv"
	"time"
)

const (
	// Register is the sorted set of the queues that workers and sweepers serve, by when they last said so (seconds since 1970).
	Register = "delayed:queues"
	audit    = "delayed:audit" // a stream of what operators have done, which Go programs do not write
	// ServeAgain is how long after that they say so again.
	ServeAgain = time.Minute
	servedFor  = 90 * 24 * time.Hour // for which a queue is known that nobody serves any more
)

var hashTag = regexp.MustCompile(`\{[^}]+\}`) // what places a key on a cluster; Redis takes the first

// Serve says that this queue has a worker or a sweeper. Queues that have had none for long are forgotten.
func (s *Store) Serve(ctx context.Context) error {
	register, now := s.register(), time.Now()
	_, err := s.Caller.Call(ctx, "ZADD", register, strconv.FormatInt(now.Unix(), 10), s.Keys.Queue)
	if err == nil {
		_, err = s.Caller.Call(ctx, "ZREMRANGEBYSCORE", register, "-inf", strconv.FormatInt(now.Add(-servedFor).Unix(), 10))
	}
	return err
}

// register is the key in which this queue stands. On a cluster there is one for each hash tag.
func (s *Store) register() string { return s.shared(Register) }

// shared is a key that many queues share. On a cluster there is one for each hash tag.
func (s *Store) shared(key string) string {
	if !s.clustered() {
		return key
	}
	tag := hashTag.FindString(s.Keys.Queue)
	if tag == "" {
		tag = "{" + s.Keys.Queue + "}"
	}
	return key + ":" + tag
}
