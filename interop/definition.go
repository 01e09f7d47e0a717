package delayed

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/vmihailenco/msgpack/v5"
)

// define is the definition of a schedule: the same bytes for the same schedule, whichever language writes it.
func (q *Queue) define(task Task, t *timetable) ([]byte, error) {
	o := asksOf(task)
	if o != nil && (o.tracked() || o.at != nil || o.after != nil && *o.after > 0 || o.expiresIn != nil || o.expiresAt != nil) {
		return nil, fmt.Errorf("%w: its tasks are all the same, so they cannot have ResultTTL, Track, Unique, At, After, Expires or "+
			"ExpiresAt; let the function of the schedule enqueue a task that has it", ErrInvalidSchedule)
	}
	data, err := q.serialize(task)
	if err != nil {
		return nil, err
	}
	var buffer bytes.Buffer
	encoder := msgpack.NewEncoder(&buffer)
	err = encoder.EncodeMapLen(4)
	for _, pair := range [][2]string{{"expression", t.Expression}, {"tz", t.TZ}, {"catch_up", string(t.CatchUp)}} {
		for _, word := range pair {
			if err == nil {
				err = encoder.EncodeString(word)
			}
		}
	}
	if err == nil {
		err = encoder.EncodeString("task")
	}
	if err == nil {
		err = encoder.EncodeBytes([]byte(data))
	}
	return buffer.Bytes(), err
}

// unpackSchedule is what a definition says. The error wraps ErrInvalidSchedule: it is none, or cannot be read here.
func unpackSchedule(definition []byte) (*timetable, []byte, error) {
	none := fmt.Errorf("%w: it is no definition of a schedule; RemoveSchedule removes it", ErrInvalidSchedule)
	if end, err := skip(definition, 0); err != nil || end != len(definition) {
		return nil, nil, none
	}
	value, err := newDecoder(definition).anything()
	fields, _ := value.(map[string]any)
	task, isTask := fields["task"].([]byte)
	if err != nil || !isTask {
		return nil, nil, none
	}
	var words [3]string
	for i, name := range []string{"expression", "tz", "catch_up"} {
		if words[i], _ = fields[name].(string); words[i] == "" {
			return nil, nil, none
		}
	}
	if _, _, isTask = glance(task); !isTask {
		return nil, nil, none
	}
	t, err := Cron{words[0], words[1], CatchUp(words[2])}.read()
	return t, task, err
}

// sameTimes tells whether a definition fires when c does.
func sameTimes(definition []byte, c Cron) bool {
	t, _, err := unpackSchedule(definition)
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

// dueAt is the next occurrence of a schedule, in milliseconds since 1970, or never.
func (q *Queue) dueAt(ctx context.Context, name string) (int64, error) {
	reply, err := q.caller.call(ctx, "ZSCORE", q.Keys.CronDue, name)
	score, isNumber := reply.(float64) // RESP3
	if text := bulk(reply); !isNumber && text != nil {
		if score, err = strconv.ParseFloat(string(text), 64); err != nil {
			return never, fmt.Errorf("delayed: %q is no score: %w", text, err)
		}
	} else if !isNumber {
		return never, err
	}
	return int64(score), err
}
