package delayed

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

const mostMilliseconds = 1 << 53 // of a header or a schedule: Redis refuses what is more

// entry is a schedule as it stands in Redis.
type entry struct {
	*timetable
	task    []byte
	expires int64 // milliseconds after each occurrence, until which its task may begin; 0 for no bound
}

// define is the schedule that enqueues a task.
func (q *Queue) define(task Task, t *timetable) (entry, error) {
	found := entry{timetable: t}
	o := asksOf(task)
	switch {
	case o.alone():
		return found, fmt.Errorf("%w: its tasks are all the same, so they cannot have ResultTTL, Track, Unique, At or After; let the function "+
			"of the schedule enqueue a task that has it", ErrInvalidSchedule)
	case o != nil && o.expiresAt != nil:
		return found, fmt.Errorf("%w: ExpiresAt is one time, but a schedule fires again and again: give Expires, which counts from each "+
			"occurrence", ErrInvalidSchedule)
	case o != nil && o.expiresIn != nil:
		if err := o.check(); err != nil {
			return found, fmt.Errorf("%s: %w", task.FuncPath(), err)
		}
		found.expires = max(rounded(*o.expiresIn), 1)
		task = lasting(task)
	}
	data, err := q.serialize(task, birth{})
	found.task = []byte(data)
	return found, err
}

// lasting is a task without Expires.
func lasting(task Task) Task {
	options := *asksOf(task)
	options.expiresIn = nil
	switch task := task.(type) {
	case *GoTask:
		return &GoTask{task.path, task.args, &options}
	case *PyTask:
		return &PyTask{task.path, task.args, task.kwargs, &options}
	}
	return task // cannot be: no other task has options
}

// pack is the definition of a schedule: the same bytes for the same schedule, whichever language writes it.
func (e entry) pack() ([]byte, error) {
	fields := []header{{"expression", e.Expression}, {"tz", e.TZ}, {"catch_up", string(e.CatchUp)}, {"task", e.task}}
	if e.expires > 0 {
		fields = append(fields, header{"expires", e.expires})
	}
	return packHeaders(fields)
}

// taskOf is the task of the occurrence at a moment, in milliseconds since 1970.
func (e entry) taskOf(moment int64) ([]byte, error) {
	if e.expires == 0 || moment == never {
		return e.task, nil
	}
	return withExpiry(e.task, moment+e.expires)
}

// unpackSchedule is what a definition says. The error wraps ErrInvalidSchedule: it is none, or cannot be read here.
func unpackSchedule(definition []byte) (entry, error) {
	none := fmt.Errorf("%w: it is no definition of a schedule; RemoveSchedule removes it", ErrInvalidSchedule)
	if end, err := skip(definition, 0); err != nil || end != len(definition) {
		return entry{}, none
	}
	value, err := newDecoder(definition).anything()
	fields, _ := value.(map[string]any)
	task, isTask := fields["task"].([]byte)
	if err != nil || !isTask {
		return entry{}, none
	}
	var words [3]string
	for i, name := range []string{"expression", "tz", "catch_up"} {
		if words[i], _ = fields[name].(string); words[i] == "" {
			return entry{}, none
		}
	}
	if _, _, isTask = glance(task); !isTask {
		return entry{}, none
	}
	expires, bounded := fields["expires"].(int64)
	if fields["expires"] != nil && (!bounded || expires <= 0 || expires > mostMilliseconds) {
		return entry{}, none
	}
	t, err := Cron{words[0], words[1], CatchUp(words[2])}.read()
	return entry{t, task, expires}, err
}

// sameTimes tells whether a definition fires when c does.
func sameTimes(definition []byte, c Cron) bool {
	t, err := unpackSchedule(definition)
	return err == nil && t.Expression == c.Expression && t.TZ == c.TZ
}

// now is the server's time, in milliseconds since 1970.
func (q *Queue) now(ctx context.Context) (int64, error) {
	ask := q.caller
	if _, clustered := q.client.(*redis.ClusterClient); clustered && ask == (pooled{q.client}) {
		single, err := master(ctx, q.client, q.Keys.Queue) // any server might answer otherwise
		if err != nil {
			return 0, err
		}
		ask = pooled{single}
	}
	reply, err := ask.call(ctx, "TIME")
	if err != nil {
		return 0, err
	}
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return 0, fmt.Errorf("delayed: Redis says that it is %v", reply)
	}
	seconds, err := strconv.ParseInt(string(bulk(parts[0])), 10, 64)
	microseconds, err2 := strconv.ParseInt(string(bulk(parts[1])), 10, 64)
	if err != nil || err2 != nil {
		return 0, fmt.Errorf("delayed: Redis says that it is %q", parts)
	}
	return seconds*1000 + microseconds/1000, nil
}

// score is when a schedule fires next, as Redis has it: exactly what was read, by which another change is noticed; empty for never.
type score string

// scoreOf reads the score of a schedule.
func (q *Queue) scoreOf(ctx context.Context, name string) (score, error) {
	reply, err := q.caller.call(ctx, "ZSCORE", q.Keys.CronDue, name)
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
