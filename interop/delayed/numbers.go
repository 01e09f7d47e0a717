package delayed

import (
	"strconv"
	"time"
)

const (
	trackedFor = 7 * 24 * time.Hour // that the state of a task is kept if nothing happens to it
	endedFor   = time.Hour          // that the end of a task is kept which keeps no result
)

// milliseconds is a duration in the whole milliseconds that Redis takes; never less than one.
func milliseconds(d time.Duration) string { return decimal(max(1, rounded(d))) }

// decimal is a number as it stands in a command.
func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// rounded is a duration in whole milliseconds.
func rounded(d time.Duration) int64 { return d.Round(time.Millisecond).Milliseconds() }

// epoch is a time in whole milliseconds since 1970.
func epoch(t time.Time) int64 { return t.Round(time.Millisecond).UnixMilli() }

// span is a number of milliseconds that a task has, which may be any nonsense.
func span(milliseconds int64) time.Duration {
	const most = int64(100 * 365 * 24 * time.Hour / time.Millisecond)
	return time.Duration(min(max(milliseconds, 0), most)) * time.Millisecond
}
