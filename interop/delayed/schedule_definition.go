package delayed

import (
	"fmt"

	"github.com/delayedq/delayed/interop/internal/cron"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const mostMilliseconds = 1 << 53 // of a header or a schedule: Redis refuses what is more

// entry is a schedule as it stands in Redis.
type entry struct {
	*cron.Timetable
	task    []byte
	expires int64 // milliseconds after each occurrence, until which its task may begin; 0 for no bound
}

// define is the schedule that enqueues a task.
func (q *Queue) define(task Task, t *cron.Timetable) (entry, error) {
	found := entry{Timetable: t}
	o := asksOf(task)
	switch {
	case o.alone() || o.tracked():
		return found, fmt.Errorf("%w: its tasks are all the same, so they cannot have ResultTTL, Track, Unique, RateKey, At or After; let the function "+
			"of the schedule enqueue a task that has it", ErrInvalidSchedule)
	case o != nil && o.expiresAt != nil:
		return found, fmt.Errorf("%w: ExpiresAt is one time, but a schedule fires again and again: give Expires, which counts from each "+
			"occurrence", ErrInvalidSchedule)
	case o != nil && o.expiresIn != nil:
		if err := o.check(); err != nil {
			return found, fmt.Errorf("%s: %w", task.FuncPath(), err)
		}
		found.expires = max(rdb.Rounded(*o.expiresIn), 1)
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
	fields := []wire.Header{{Name: "expression", Value: e.Expression}, {Name: "tz", Value: e.Tz}, {Name: "catch_up", Value: e.CatchUp}, {Name: "task", Value: e.task}}
	if e.expires > 0 {
		fields = append(fields, wire.Header{Name: "expires", Value: e.expires})
	}
	return wire.PackHeaders(fields)
}

// taskOf is the task of the occurrence at a moment, in milliseconds since 1970.
func (e entry) taskOf(moment int64) ([]byte, error) {
	if e.expires == 0 || moment == cron.Never {
		return e.task, nil
	}
	return wire.WithExpiry(e.task, moment+e.expires)
}

// unpackSchedule is what a definition says. The error wraps ErrInvalidSchedule: it is none, or cannot be read here.
func unpackSchedule(definition []byte) (entry, error) {
	none := fmt.Errorf("%w: it is no definition of a schedule; RemoveSchedule removes it", ErrInvalidSchedule)
	if end, err := wire.Skip(definition, 0); err != nil || end != len(definition) {
		return entry{}, none
	}
	value, err := wire.NewDecoder(definition).Anything()
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
	if _, _, isTask = wire.Peek(task); !isTask {
		return entry{}, none
	}
	expires, bounded := fields["expires"].(int64)
	if fields["expires"] != nil && (!bounded || expires <= 0 || expires > mostMilliseconds) {
		return entry{}, none
	}
	t, err := Cron{words[0], words[1], CatchUp(words[2])}.read()
	return entry{t, task, expires}, err
}

// sameTimes reports whether a definition fires when c does.
func sameTimes(definition []byte, c Cron) bool {
	t, err := unpackSchedule(definition)
	return err == nil && t.Expression == c.Expression && t.Tz == c.TZ
}
