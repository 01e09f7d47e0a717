package delayed

import (
	"context"
	"crypto/sha1" //nolint:gosec // a name, no secret
	"encoding/hex"
	"maps"
	"slices"
	"sync"
)

const restoredAtOnce = 20 // schedules that are written again by one call: who asks has other things to do

// defined is a schedule that this program has defined.
type defined struct {
	definition []byte
	timetable  *timetable
}

// definitions are the schedules that this program has defined, by their names. It is safe for use by many goroutines.
type definitions struct {
	mu   sync.Mutex
	each map[string]defined
}

func (d *definitions) keep(name string, this defined) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.each == nil {
		d.each = map[string]defined{}
	}
	d.each[name] = this
}

func (d *definitions) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.each, name)
}

func (d *definitions) all() map[string]defined {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.each)
}

// noteDefined says that a schedule was there: if it is not any more, and this is, somebody has removed it on purpose.
func (q *Queue) noteDefined(ctx context.Context, name string, definition []byte) error {
	sum := sha1.Sum(definition) //nolint:gosec // as above
	_, err := q.caller.call(ctx, "HSET", q.Keys.CronDefined, name, hex.EncodeToString(sum[:]))
	return err
}

// restoreSchedules writes some of the schedules again that this program has defined and Redis has lost. It returns how many there were.
func (q *Queue) restoreSchedules(ctx context.Context) (count int, err error) {
	ours := q.defined.all()
	if len(ours) == 0 {
		return 0, nil
	}
	names := slices.Sorted(maps.Keys(ours))
	reply, err := q.caller.call(ctx, append([]string{"HMGET", q.Keys.CronDefined}, names...)...)
	known, _ := reply.([]any)
	if err != nil || len(known) != len(names) {
		return 0, err
	}
	asked := 0
	for i, name := range names {
		if known[i] != nil || asked == restoredAtOnce {
			continue
		}
		asked++
		changed, err := q.putSchedule(ctx, name, ours[name])
		if err == nil {
			err = q.noteDefined(ctx, name, ours[name].definition)
		}
		if err != nil {
			return count, err
		}
		if changed {
			count++
		}
	}
	return count, nil
}
