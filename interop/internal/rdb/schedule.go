package rdb

import (
	"context"
	"crypto/sha1" //nolint:gosec // a name, no secret
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/delayedq/delayed/interop/internal/cron"
)

// ScheduleChange is a change of a schedule, and what the caller has seen of it.
type ScheduleChange struct {
	Name       string
	Seen       []byte // its definition; nil: there was none
	Due        Score  // its next occurrence; empty: it had none
	Definition []byte // from now on; nil: it is removed
	Next       Score  // its next occurrence from now on; empty: it is paused
	Task       []byte // what to enqueue,
	Count      int    // and how often
}

// ChangeSchedule changes a schedule, if it still is as the caller saw it, and enqueues its task. False if it is not so: nothing has
// happened.
func (s *Store) ChangeSchedule(ctx context.Context, c ScheduleChange) (bool, error) {
	digest := ""
	if c.Seen != nil {
		sum := sha1.Sum(c.Seen) //nolint:gosec // as above
		digest = hex.EncodeToString(sum[:])
	}
	k := s.Keys
	n, err := s.count(ctx, "cron", []string{k.Queue, k.Noti, k.Cron, k.CronDue, k.Wake}, c.Name, digest, string(c.Due),
		string(c.Definition), string(c.Next), string(c.Task), Decimal(int64(c.Count)))
	return n == 1, err
}

// Schedule reads the definition of a schedule, nil if there is none, and its next occurrence.
func (s *Store) Schedule(ctx context.Context, name string) (definition []byte, due Score, err error) {
	reply, err := s.Caller.Call(ctx, "HGET", s.Keys.Cron, name)
	if err != nil {
		return nil, "", err
	}
	definition = Bulk(reply)
	due, err = s.scoreOf(ctx, name)
	return definition, due, err
}

// Score is when a schedule fires next, as Redis has it: exactly what was read, by which another change is noticed; empty for never.
type Score string

// scoreOf reads the score of a schedule.
func (s *Store) scoreOf(ctx context.Context, name string) (Score, error) {
	reply, err := s.Caller.Call(ctx, "ZSCORE", s.Keys.CronDue, name)
	if number, isNumber := reply.(float64); isNumber { // RESP3
		return Score(strconv.FormatFloat(number, 'g', -1, 64)), err
	}
	return Score(Bulk(reply)), err
}

// ScoreAt is the score of a moment in milliseconds since 1970, or of never.
func ScoreAt(moment int64) Score {
	if moment == cron.Never {
		return ""
	}
	return Score(Decimal(moment))
}

// Moment is what a score says, in milliseconds since 1970; never if there is none, or if it makes no sense.
func (s Score) Moment() int64 {
	number, err := strconv.ParseFloat(string(s), 64)
	if err != nil || !(number >= 0 && number < (cron.LastInstant+1)*1000) {
		return cron.Never
	}
	return int64(number)
}

// After reports whether that is later than a moment. A score that is no number is not.
func (s Score) After(moment int64) bool {
	number, err := strconv.ParseFloat(string(s), 64)
	return err == nil && number > float64(moment)
}

// NextOccurrence is how long it takes from now to the next occurrence of a schedule; negative if there is none.
func (s *Store) NextOccurrence(ctx context.Context, now int64) (time.Duration, error) {
	reply, err := s.Caller.Call(ctx, "ZRANGEBYSCORE", s.Keys.CronDue, "("+Decimal(now), "+inf", "LIMIT", "0", "1")
	first, _ := reply.([]any)
	if err != nil || len(first) == 0 {
		return -1, err
	}
	due, err := s.scoreOf(ctx, string(Bulk(first[0])))
	moment := due.Moment()
	if err != nil || moment == cron.Never {
		return -1, err
	}
	return time.Duration(max(0, moment-now)) * time.Millisecond, nil
}

// Now is the server's time, in milliseconds since 1970.
func (s *Store) Now(ctx context.Context) (int64, error) {
	ask := s.Caller
	if s.clustered() && ask == (pool{s.Client}) {
		single, err := Master(ctx, s.Client, s.Keys.Queue) // any server might answer otherwise
		if err != nil {
			return 0, err
		}
		ask = pool{single}
	}
	reply, err := ask.Call(ctx, "TIME")
	if err != nil {
		return 0, err
	}
	said, err := TimeIn(reply)
	return said.UnixMilli(), err
}

// TimeIn is what a reply to TIME says.
func TimeIn(reply any) (time.Time, error) {
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return time.Time{}, fmt.Errorf("delayed: Redis says that it is %v", reply)
	}
	seconds, err := strconv.ParseInt(string(Bulk(parts[0])), 10, 64)
	microseconds, err2 := strconv.ParseInt(string(Bulk(parts[1])), 10, 64)
	if err != nil || err2 != nil {
		return time.Time{}, fmt.Errorf("delayed: Redis says that it is %q", parts)
	}
	return time.Unix(seconds, microseconds*1000), nil
}
