package cron

const (
	fewBack = 1000 // milliseconds back in which the newest occurrence is looked for first
	further = 8    // times further back, if there was none
)

// DecideExpiring is Decide for a schedule whose tasks expire so many milliseconds after their occurrence: one occurrence at a time,
// and without those whose task could not begin any more. It says of which occurrence a task is enqueued (never: all are too late), and
// when the next one is, both in milliseconds since 1970; that may have passed too.
func (c *Timetable) DecideExpiring(due, now, expires int64) (moment, next int64) {
	switch {
	case due > now:
		return Never, due
	case c.CatchUp == AllMissed && due+expires > now:
		return due, c.After(due)
	case c.CatchUp == AllMissed:
		return Never, c.After(now - expires)
	}
	before := max(due-1, now-expires)
	if c.CatchUp == SkipMissed && now-due > Punctual {
		before = max(before, now-Punctual-1)
	}
	return c.newest(before, now), c.After(now)
}

// newest is the last occurrence after before that is not after now.
func (c *Timetable) newest(before, now int64) int64 {
	back := int64(fewBack)
	var found int64
	for {
		if found = c.After(max(before, now-back)); found != Never && found <= now {
			break
		}
		if now-back <= before {
			return Never
		}
		back *= further
	}
	for range mostCaughtUp {
		following := c.After(found)
		if following == Never || following > now {
			break
		}
		found = following
	}
	return found
}
