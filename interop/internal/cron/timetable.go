// Package cron says when a schedule fires. It knows no Redis and no tasks.
package cron

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

const (
	Punctual     = 60_000 // milliseconds: what is not later than this has not been missed
	mostCaughtUp = 1000   // occurrences that are caught up with at once
	day          = 86400  // seconds; no zone changes its offset and changes it back within a day
	firstInstant = -62135596800
	LastInstant  = 253402300799 // seconds: the years 1 to 9999, beyond which the Python package finds nothing
)

// What becomes of occurrences that were missed.
const (
	SkipMissed = "skip"
	OneMissed  = "one"
	AllMissed  = "all"
)

// Timetable says when a schedule fires, and what becomes of occurrences that were missed.
type Timetable struct {
	Expression, Tz, CatchUp string
	fields                  *fields
	zone                    *time.Location
	certain                 bool // a schedule of certain times
}

// Read makes sense of a cron expression, the name of a time zone (UTC by default), and a word for what becomes of what was missed
// (skipMissed by default).
func Read(expression, tz, catchUp string) (*Timetable, error) {
	if tz == "" {
		tz = "UTC"
	}
	if catchUp == "" {
		catchUp = SkipMissed
	}
	if catchUp != SkipMissed && catchUp != OneMissed && catchUp != AllMissed {
		return nil, fmt.Errorf("what becomes of missed occurrences is %s, %s or %s, not %q",
			SkipMissed, OneMissed, AllMissed, catchUp)
	}
	fields, err := parse(expression)
	if err != nil {
		return nil, fmt.Errorf("%.200q: %w", expression, err)
	}
	zone, err := time.LoadLocation(tz)
	if err == nil && (path.Clean(tz) != tz || tz == "Local") { // the zone of one machine is not that of another
		err = errors.New("that is no name of a zone")
	}
	if err != nil {
		return nil, fmt.Errorf("there is no time zone %q on this machine (%w); they are called as in 'Europe/Zurich'; if it should "+
			"be there, install tzdata, or import time/tzdata in the program", tz, err)
	}
	words := wordsOf(expression)
	minute, hour := words[len(words)-5], words[len(words)-4]
	return &Timetable{expression, tz, catchUp, fields, zone, !strings.HasPrefix(minute, "*") && !strings.HasPrefix(hour, "*")}, nil
}

// After is the first occurrence after a moment, both in milliseconds since 1970; never if there is none in 50 years.
func (c *Timetable) After(moment int64) int64 {
	seconds := moment / 1000
	if moment%1000 < 0 {
		seconds--
	}
	if seconds < firstInstant || seconds > LastInstant {
		return Never
	}
	found := c.anyAfter
	if c.certain {
		found = c.certainAfter
	}
	if instant := found(seconds); instant != Never && instant <= LastInstant {
		return instant * 1000
	}
	return Never
}

// Decide says how many tasks a schedule enqueues now whose next occurrence was to be at due, and when its next one is, in
// milliseconds since 1970; that may have passed too, and may be never.
func (c *Timetable) Decide(due, now int64) (tasks int, next int64) {
	if due > now {
		return 0, due
	}
	if c.CatchUp == AllMissed {
		for next = due; tasks < mostCaughtUp && next != Never && next <= now; tasks++ {
			next = c.After(next)
		}
		return tasks, next
	}
	newest := due
	if c.CatchUp == SkipMissed && now-due > Punctual {
		newest = c.After(now - Punctual - 1)
	}
	if newest != Never && newest <= now {
		tasks = 1
	}
	return tasks, c.After(now)
}

func (c *Timetable) certainAfter(seconds int64) int64 {
	for reading := c.fields.next(seconds + c.offset(seconds)); reading != Never; reading = c.fields.next(reading) {
		if instant := c.first(reading); instant > seconds { // else this reading is past: its first time was
			return instant
		}
	}
	return Never
}

func (c *Timetable) anyAfter(seconds int64) int64 {
	offset := c.offset(seconds)
	for begin := seconds + offset; ; {
		reading := c.fields.next(begin)
		if reading == Never {
			return Never
		}
		change := c.change(seconds, reading-offset)
		if change == Never {
			return reading - offset
		}
		seconds, offset = change, c.offset(change)
		begin = change + offset - 1 // the very instant of the change may match
	}
}

func (c *Timetable) offset(seconds int64) int64 {
	_, offset := time.Unix(seconds, 0).In(c.zone).Zone()
	return int64(offset)
}

// first is when the clock shows a reading for the first time; if it never does, when the gap ends.
func (c *Timetable) first(reading int64) int64 {
	for begin := reading - day; ; { // where the clock has not come so far, in any zone
		instant := reading - c.offset(begin)
		if instant < begin {
			return begin
		}
		change := c.change(begin, instant)
		if change == Never {
			return instant
		}
		begin = change
	}
}

// change is when the offset changes for the first time after early and not after late; never if it does not. (ZoneBounds would say
// it, but what it says of the years that a zone's rule stands for is not always ahead.)
func (c *Timetable) change(early, late int64) int64 {
	offset := c.offset(early)
	for early < late {
		middle := min(early+day, late)
		if c.offset(middle) == offset {
			early = middle
			continue
		}
		for middle-early > 1 {
			if half := early + (middle-early)/2; c.offset(half) == offset {
				early = half
			} else {
				middle = half
			}
		}
		return middle
	}
	return Never
}
