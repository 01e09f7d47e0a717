package delayed

import (
	"context"
	"crypto/sha1" //nolint:gosec // a name, no secret
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// cronChange is a change of a schedule, and what the caller has seen of it.
type cronChange struct {
	name       string
	seen       []byte // its definition; nil: there was none
	due        score  // its next occurrence; empty: it had none
	definition []byte // from now on; nil: it is removed
	next       score  // its next occurrence from now on; empty: it is paused
	task       []byte // what to enqueue,
	count      int    // and how often
}

// cron changes a schedule, if it still is as the caller saw it, and enqueues its task. False if it is not so: nothing has happened.
func (s *store) cron(ctx context.Context, c cronChange) (bool, error) {
	digest := ""
	if c.seen != nil {
		sum := sha1.Sum(c.seen) //nolint:gosec // as above
		digest = hex.EncodeToString(sum[:])
	}
	k := s.Keys
	n, err := s.count(ctx, "cron", []string{k.Queue, k.Noti, k.Cron, k.CronDue, k.Wake}, c.name, digest, string(c.due),
		string(c.definition), string(c.next), string(c.task), decimal(int64(c.count)))
	return n == 1, err
}

// schedule reads the definition of a schedule, nil if there is none, and its next occurrence.
func (s *store) schedule(ctx context.Context, name string) (definition []byte, due score, err error) {
	reply, err := s.caller.call(ctx, "HGET", s.Keys.Cron, name)
	if err != nil {
		return nil, "", err
	}
	definition = bulk(reply)
	due, err = s.scoreOf(ctx, name)
	return definition, due, err
}

// score is when a schedule fires next, as Redis has it: exactly what was read, by which another change is noticed; empty for never.
type score string

// scoreOf reads the score of a schedule.
func (s *store) scoreOf(ctx context.Context, name string) (score, error) {
	reply, err := s.caller.call(ctx, "ZSCORE", s.Keys.CronDue, name)
	if number, isNumber := reply.(float64); isNumber { // RESP3
		return score(strconv.FormatFloat(number, 'g', -1, 64)), err
	}
	return score(bulk(reply)), err
}

// at is the score of a moment in milliseconds since 1970, or of never.
func at(moment int64) score {
	if moment == never {
		return ""
	}
	return score(decimal(moment))
}

// moment is what a score says, in milliseconds since 1970; never if there is none, or if it makes no sense.
func (s score) moment() int64 {
	number, err := strconv.ParseFloat(string(s), 64)
	if err != nil || !(number >= 0 && number < (lastInstant+1)*1000) {
		return never
	}
	return int64(number)
}

// after tells whether that is later than a moment. A score that is no number is not.
func (s score) after(moment int64) bool {
	number, err := strconv.ParseFloat(string(s), 64)
	return err == nil && number > float64(moment)
}

// nextAfter is how long it takes from now to the next occurrence of a schedule; negative if there is none.
func (s *store) nextAfter(ctx context.Context, now int64) (time.Duration, error) {
	reply, err := s.caller.call(ctx, "ZRANGEBYSCORE", s.Keys.CronDue, "("+decimal(now), "+inf", "LIMIT", "0", "1")
	first, _ := reply.([]any)
	if err != nil || len(first) == 0 {
		return -1, err
	}
	due, err := s.scoreOf(ctx, string(bulk(first[0])))
	moment := due.moment()
	if err != nil || moment == never {
		return -1, err
	}
	return time.Duration(max(0, moment-now)) * time.Millisecond, nil
}

// now is the server's time, in milliseconds since 1970.
func (s *store) now(ctx context.Context) (int64, error) {
	ask := s.caller
	if s.clustered() && ask == (pooled{s.client}) {
		single, err := master(ctx, s.client, s.Keys.Queue) // any server might answer otherwise
		if err != nil {
			return 0, err
		}
		ask = pooled{single}
	}
	reply, err := ask.call(ctx, "TIME")
	if err != nil {
		return 0, err
	}
	said, err := timeIn(reply)
	return said.UnixMilli(), err
}

// timeIn is what a reply to TIME says.
func timeIn(reply any) (time.Time, error) {
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return time.Time{}, fmt.Errorf("delayed: Redis says that it is %v", reply)
	}
	seconds, err := strconv.ParseInt(string(bulk(parts[0])), 10, 64)
	microseconds, err2 := strconv.ParseInt(string(bulk(parts[1])), 10, 64)
	if err != nil || err2 != nil {
		return time.Time{}, fmt.Errorf("delayed: Redis says that it is %q", parts)
	}
	return time.Unix(seconds, microseconds*1000), nil
}
