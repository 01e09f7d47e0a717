package delayed

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // a name, no secret
	"encoding/hex"
	"maps"
	"slices"
	"sync"

	"github.com/delayedq/delayed/interop/internal/cron"
)

const restoredAtOnce = 20 // schedules that are written again by one call: who asks has other things to do

// defined is a schedule that this program has defined.
type defined struct {
	definition []byte
	timetable  *cron.Timetable
	noted      bool // Redis knows that it was there
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

// note says that Redis knows that a schedule was there, if it is still the same.
func (d *definitions) note(name string, this defined) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now, ours := d.each[name]; ours && bytes.Equal(now.definition, this.definition) {
		now.noted = true
		d.each[name] = now
	}
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

// noteDefined says in Redis that a schedule was there: if it is not any more, and this is, somebody has removed it on purpose.
func (q *Queue) noteDefined(ctx context.Context, name string, this defined) error {
	sum := sha1.Sum(this.definition) //nolint:gosec // as above
	_, err := q.store.Caller.Call(ctx, "HSET", q.store.Keys.CronDefined, name, hex.EncodeToString(sum[:]))
	if err == nil {
		q.defined.note(name, this)
	}
	return err
}

// restoreSchedules writes some of the schedules again that this program has defined and Redis has lost, and notes new ones. It returns
// how many were lost.
func (q *Queue) restoreSchedules(ctx context.Context) (count int, err error) {
	ours := q.defined.all()
	if len(ours) == 0 {
		return 0, nil
	}
	names := slices.Sorted(maps.Keys(ours))
	reply, err := q.store.Caller.Call(ctx, append([]string{"HMGET", q.store.Keys.CronDefined}, names...)...)
	known, _ := reply.([]any)
	if err != nil || len(known) != len(names) {
		return 0, err
	}
	asked := 0
	for i, name := range names {
		this := ours[name]
		if known[i] != nil {
			q.defined.note(name, this)
			continue
		}
		if asked++; asked > restoredAtOnce {
			continue
		}
		changed, err := q.putSchedule(ctx, name, this)
		if err == nil {
			err = q.noteDefined(ctx, name, this)
		}
		if err != nil {
			return count, err
		}
		if changed && this.noted {
			count++
		}
	}
	return count, nil
}
