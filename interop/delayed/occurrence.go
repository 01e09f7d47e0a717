package delayed

import (
	"slices"
	"strings"
)

const (
	fewBack = 1000 // milliseconds back in which the newest occurrence is looked for first
	further = 8    // times further back, if there was none
)

// choose is decide for a schedule whose tasks expire: one occurrence at a time, and without those whose task could not begin any more. It
// says of which occurrence a task is enqueued (never: all are too late), and when the next one is, both in milliseconds since 1970; that
// may have passed too.
func (e entry) choose(due, now int64) (moment, next int64) {
	switch {
	case due > now:
		return never, due
	case e.CatchUp == AllMissed && due+e.expires > now:
		return due, e.after(due)
	case e.CatchUp == AllMissed:
		return never, e.after(now - e.expires)
	}
	before := max(due-1, now-e.expires)
	if e.CatchUp == SkipMissed && now-due > punctual {
		before = max(before, now-punctual-1)
	}
	return e.newest(before, now), e.after(now)
}

// newest is the last occurrence after before that is not after now.
func (e entry) newest(before, now int64) int64 {
	back := int64(fewBack)
	var found int64
	for {
		if found = e.after(max(before, now-back)); found != never && found <= now {
			break
		}
		if now-back <= before {
			return never
		}
		back *= further
	}
	for range mostCaughtUp {
		following := e.after(found)
		if following == never || following > now {
			break
		}
		found = following
	}
	return found
}

// withExpiry is the task in data, in either language, with the header expires; its other bytes are copied.
func withExpiry(data []byte, expires int64) ([]byte, error) {
	path, _, _ := glance(data)
	absent := [][]byte{{0xc0}} // what stands for a payload if there is none
	if strings.Contains(path, separator) {
		absent = [][]byte{{0x90}, {0x80}, {0x00}} // args, kwargs and retry
	}
	whole, _ := headAt(data, 0)
	count, begin := 1, 0 // a bare path
	if whole.kind == kindArray {
		count, begin = whole.values, whole.body
	}
	fields, at := 1+len(absent), begin
	for range min(count, fields) {
		at, _ = skip(data, at)
	}
	headers := mapHead(0)
	if count > fields {
		if h, _ := headAt(data, at); h.kind == kindMap {
			end, _ := skip(data, at)
			headers = data[at:end]
		}
	}
	changed, err := changeHeaders(headers, []header{{"expires", expires}})
	missing := slices.Concat(absent[min(count, fields)-1:]...)
	return slices.Concat([]byte{0x90 | byte(fields+1)}, data[begin:at], missing, changed), err
}
