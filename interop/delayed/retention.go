package delayed

import (
	"context"
	"strconv"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

const (
	defaultLetters = 100_000             // dead letters that a queue keeps
	defaultAge     = 30 * 24 * time.Hour // that it keeps them
	trimming       = time.Minute         // between two looks whether there are too many
)

// DeadMax says about how many dead letters a queue keeps, the newest: 100,000 by default, 0 for all.
func DeadMax(n int) SweeperOption { return func(s *Sweeper) { s.deadMax = n } }

// DeadAge says about how long a queue keeps dead letters: 30 days by default, 0 for ever.
func DeadAge(d time.Duration) SweeperOption { return func(s *Sweeper) { s.deadAge = d } }

// retention is what a sweeper knows of a queue's dead letters.
type retention struct {
	notified string    // the newest letter that it has read for those who wait; empty: it has just begun
	older    string    // where the older ones begin that it has not read yet; empty: there are none of whom to tell
	newest   time.Time // of the letters that there were when it began
	trimAt   time.Time // when to look again whether there are too many
}

// letterKey names the dead letters of a queue, over whichever connection.
type letterKey struct {
	client redis.UniversalClient
	name   string
}

func (s *Sweeper) retentionOf(queue *Queue) *retention {
	key := letterKey{queue.store.Client, queue.Name()}
	if s.retentions[key] == nil {
		s.retentions[key] = &retention{older: "+"}
	}
	return s.retentions[key]
}

// trimIfTime removes the letters that are too many or too old, if it is time to look, and if those who may wait for their tasks have been
// told; unless Redis refuses that: what makes room matters more.
func (s *Sweeper) trimIfTime(ctx context.Context, queue *Queue) error {
	kept := s.retentionOf(queue)
	if time.Now().Before(kept.trimAt) {
		return nil
	}
	if err := s.notifyLost(ctx, queue); err != nil && !conn.Answered(err) || err == nil && kept.older != "" {
		return err
	}
	kept.trimAt = time.Now().Add(trimming)
	return s.trim(ctx, queue)
}

// trim removes the oldest letters that are too many or too old.
func (s *Sweeper) trim(ctx context.Context, queue *Queue) error {
	var many, old any
	var err error
	if s.deadMax > 0 {
		if many, err = queue.store.Caller.Call(ctx, "XTRIM", queue.store.Keys.Dead, "MAXLEN", "~", strconv.Itoa(s.deadMax)); err != nil {
			return err
		}
	}
	if s.deadAge > 0 {
		now, err := queue.store.Now(ctx)
		if err != nil {
			return err
		}
		oldest := rdb.Decimal(max(now-s.deadAge.Milliseconds(), 0))
		if old, err = queue.store.Caller.Call(ctx, "XTRIM", queue.store.Keys.Dead, "MINID", "~", oldest); err != nil {
			return err
		}
	}
	if count, _ := many.(int64); count > 0 {
		s.log.Warn("removed the oldest dead letters: there were too many", "queue", queue.Name(), "removed", count, "kept", s.deadMax)
	}
	if count, _ := old.(int64); count > 0 {
		s.log.Warn("removed the oldest dead letters: they were too old", "queue", queue.Name(), "removed", count, "age", s.deadAge)
	}
	return nil
}
