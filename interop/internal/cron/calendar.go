package cron

import (
	"math"
	"time"
)

const Never = math.MinInt64 // no such instant

// next is the first reading after another one that matches; never if there is none in 50 years. A reading of a clock without a zone
// is the seconds from its 1970.
func (f *fields) next(reading int64) int64 {
	begin := time.Unix(reading+1, 0).UTC()
	year, month, day := begin.Date()
	from := begin.Hour()*3600 + begin.Minute()*60 + begin.Second()
	for last := min(year+searched, lastYear); year <= last; {
		if !f.fields[ofMonth].has(int(month)) {
			year, month, day = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC).Date()
			from = 0
			continue
		}
		if f.matchesDay(year, month, day) {
			if second, ok := f.clock(from); ok {
				return time.Date(year, month, day, 0, 0, second, 0, time.UTC).Unix()
			}
		}
		year, month, day = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC).Date()
		from = 0
	}
	return Never
}

// clock is the first second of a day, not before from, that matches.
func (f *fields) clock(from int) (int, bool) {
	for hour := from / 3600; hour < 24; hour++ {
		if !f.fields[ofHour].has(hour) {
			continue
		}
		for minute := range 60 {
			if !f.fields[ofMinute].has(minute) {
				continue
			}
			for second := range 60 {
				if at := hour*3600 + minute*60 + second; at >= from && f.fields[0].has(second) {
					return at, true
				}
			}
		}
	}
	return 0, false
}

func (f *fields) matchesDay(year int, month time.Month, day int) bool {
	length := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	weekday := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Weekday()
	inMonth := f.matchesDayOfMonth(day, length, weekday)
	inWeek := f.fields[ofWeekday]
	nth := inWeek.nth[weekday]
	matches := inWeek.has(int(weekday)) || nth>>((day+6)/7)&1 == 1 || nth>>lastOnes&1 == 1 && day+7 > length
	if f.both {
		return inMonth && matches
	}
	return inMonth || matches
}

func (f *fields) matchesDayOfMonth(day, length int, weekday time.Weekday) bool {
	days := f.fields[ofDay]
	if days.has(day) || days.last && day == length {
		return true
	}
	return days.lastWorkday && (weekday == time.Friday && day+2 >= length ||
		weekday >= time.Monday && weekday < time.Friday && day == length)
}
