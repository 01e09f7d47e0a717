package rdb

import (
	"strconv"
	"time"
)

const (
	TrackedFor = 7 * 24 * time.Hour // that the state of a task is kept if nothing happens to it
	EndedFor   = time.Hour          // that the end of a task is kept which keeps no result
)

// Milliseconds is a duration in the whole milliseconds that Redis takes; never less than one.
func Milliseconds(d time.Duration) string { return Decimal(max(1, Rounded(d))) }

// Decimal is a number as it stands in a command.
func Decimal(n int64) string { return strconv.FormatInt(n, 10) }

// Rounded is a duration in whole milliseconds.
func Rounded(d time.Duration) int64 { return d.Round(time.Millisecond).Milliseconds() }

// Epoch is a time in whole milliseconds since 1970.
func Epoch(t time.Time) int64 { return t.Round(time.Millisecond).UnixMilli() }

// Span is a number of milliseconds that a task has, which may be any nonsense.
func Span(milliseconds int64) time.Duration {
	const most = int64(100 * 365 * 24 * time.Hour / time.Millisecond)
	return time.Duration(min(max(milliseconds, 0), most)) * time.Millisecond
}
