package delayed

const (
	fewBack = 1000 // milliseconds back in which the newest occurrence is looked for first
	further = 8    // times further back, if there was none
)

// choose is decide for a schedule whose tasks expire so many milliseconds after their occurrence: one occurrence at a time, and without those whose task could not begin any more. It
// says of which occurrence a task is enqueued (never: all are too late), and when the next one is, both in milliseconds since 1970; that
// may have passed too.
func (c *timetable) choose(due, now, expires int64) (moment, next int64) {
	switch {
	case due > now:
		return never, due
	case c.catchUp == allMissed && due+expires > now:
		return due, c.after(due)
	case c.catchUp == allMissed:
		return never, c.after(now - expires)
	}
	before := max(due-1, now-expires)
	if c.catchUp == skipMissed && now-due > punctual {
		before = max(before, now-punctual-1)
	}
	return c.newest(before, now), c.after(now)
}

// newest is the last occurrence after before that is not after now.
func (c *timetable) newest(before, now int64) int64 {
	back := int64(fewBack)
	var found int64
	for {
		if found = c.after(max(before, now-back)); found != never && found <= now {
			break
		}
		if now-back <= before {
			return never
		}
		back *= further
	}
	for range mostCaughtUp {
		following := c.after(found)
		if following == never || following > now {
			break
		}
		found = following
	}
	return found
}
