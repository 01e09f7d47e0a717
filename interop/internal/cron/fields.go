package cron

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	searched   = 50   // years in which an expression has to match
	lastYear   = 9999 // with which the calendar of the Python package ends
	mostDigits = 4300 // of a number that the Python package reads
	lastOnes   = 7    // where the five occurrences of a weekday in a month are counted: its last one
)

var (
	cronNames = [6]string{"second", "minute", "hour", "day of the month", "month", "day of the week"}
	cronSpans = [6][2]int{{0, 59}, {0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 7}}
	cronWords = [6][]string{
		4: {"", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"},
		5: {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"},
	}
	longest = [13]int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
)

// places in an expression
const (
	ofMinute  = 1
	ofHour    = 2
	ofDay     = 3
	ofMonth   = 4
	ofWeekday = 5
)

// choice is what one field of an expression matches: numbers, and days that differ from month to month.
type choice struct {
	numbers     uint64
	last        bool             // L: the last day of the month
	lastWorkday bool             // LW: the last one from Monday to Friday
	nth         [lastOnes]uint64 // of each weekday: which ones of the month (#2), and lastOnes (2L)
}

func (c choice) has(n int) bool { return c.numbers>>n&1 == 1 }

func (c choice) with(other choice) choice {
	c.numbers |= other.numbers
	c.last, c.lastWorkday = c.last || other.last, c.lastWorkday || other.lastWorkday
	for day := range c.nth {
		c.nth[day] |= other.nth[day]
	}
	return c
}

// fields is an expression: which readings of a clock match it. What it accepts, and what that means, is what the Python package's
// parser (cronsim) does. Parsers for Go know neither L, LW, 2L and MON#1, nor 7 for Sunday, and differ on when day of the month and
// day of the week must both match; hence it is read here.
type fields struct {
	fields [6]choice
	both   bool // day of the month and day of the week must match; else one of them is enough
}

// parse reads an expression of five or, with seconds in front, six fields.
func parse(expression string) (*fields, error) {
	words := wordsOf(strings.ToUpper(expression))
	if len(words) != 5 && len(words) != 6 {
		return nil, fmt.Errorf("it has %d fields, and a cron expression has five: minute, hour, day of the month, month, day of the "+
			"week, as in '30 2 * * MON' (a sixth, in front, is for seconds)", len(words))
	}
	if len(words) == 5 {
		words = append([]string{"0"}, words...)
	}
	f := &fields{both: strings.HasPrefix(words[ofDay], "*") || strings.HasPrefix(words[ofWeekday], "*")}
	for place, word := range words {
		found, err := parseField(place, word)
		if err != nil {
			return nil, fmt.Errorf("its %s cannot be %q; minutes are 0-59, hours 0-23, days 1-31 (or L, LW), months 1-12 (or JAN-DEC), "+
				"days of the week 0-7 (or SUN-SAT, MON#1, 5L)", cronNames[place], word)
		}
		f.fields[place] = found
	}
	week := &f.fields[ofWeekday].numbers
	*week = *week&0x7f | *week>>7&1 // 7 is Sunday, too
	if begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC); !f.possible() || f.next(begin.Unix()) == Never {
		return nil, errors.New("it never fires: there is no such day; change its day, month or day of the week")
	}
	return f, nil
}

// wordsOf splits an expression wherever Python sees a space.
func wordsOf(expression string) []string {
	return strings.FieldsFunc(expression, func(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f })
}

// possible reports whether a month that matches has as many days.
func (f *fields) possible() bool {
	days := f.fields[ofDay]
	if days.last || days.lastWorkday || !f.both {
		return true
	}
	most := 0
	for month, length := range longest {
		if f.fields[ofMonth].has(month) {
			most = max(most, length)
		}
	}
	return bits.TrailingZeros64(days.numbers) <= most
}

var errField = errors.New("cannot be read")

// parseField reads one field; the order in which it looks for special characters is part of the syntax.
func parseField(place int, word string) (choice, error) {
	span := cronSpans[place]
	switch {
	case word == "*":
		return numbersFrom(span[0], span[1], 1), nil
	case strings.Contains(word, ","):
		var all choice
		for term := range strings.SplitSeq(word, ",") {
			found, err := parseField(place, term)
			if err != nil {
				return choice{}, err
			}
			all = all.with(found)
		}
		return all, nil
	case place == ofWeekday && strings.ContainsAny(word, "L#"):
		return parseWeekdayOfMonth(word)
	case strings.Contains(word, "/"):
		return parseSteps(place, word)
	case strings.Contains(word, "-"):
		from, to, _ := strings.Cut(word, "-")
		first, err := parseNumber(place, from)
		last, err2 := parseNumber(place, to)
		if err != nil || err2 != nil || last < first {
			return choice{}, errField
		}
		return numbersFrom(first, last, 1), nil
	case place == ofDay && word == "LW":
		return choice{lastWorkday: true}, nil
	case place == ofDay && word == "L":
		return choice{last: true}, nil
	}
	number, err := parseNumber(place, word)
	return numbersFrom(number, number, 1), err
}

// parseWeekdayOfMonth reads 5L and MON#2.
func parseWeekdayOfMonth(word string) (choice, error) {
	day, which, counted := strings.Cut(word, "#")
	number, err := 0, errField
	if name, last := strings.CutSuffix(word, "L"); last {
		if number, err = digits(name); err == nil {
			number, err = parseNumber(ofWeekday, name)
		}
		which = strconv.Itoa(lastOnes)
	} else if counted && !strings.Contains(word, "L") {
		number, err = parseNumber(ofWeekday, day)
	}
	n, err2 := digits(which)
	if err != nil || err2 != nil || n < 1 || n > 5 && n != lastOnes || counted && n == lastOnes {
		return choice{}, errField
	}
	var found choice
	found.nth[number%7] = 1 << n
	return found, nil
}

// parseSteps reads */5, 3/5 and 3-40/5.
func parseSteps(place int, word string) (choice, error) {
	term, every, _ := strings.Cut(word, "/")
	step, err := digits(every)
	if err != nil || step == 0 {
		return choice{}, errField
	}
	all, err := parseField(place, term)
	if err != nil || all.last || all.lastWorkday {
		return all, err
	}
	first, last := bits.TrailingZeros64(all.numbers), 63-bits.LeadingZeros64(all.numbers)
	if first == last {
		last = cronSpans[place][1]
	}
	return numbersFrom(first, last, step), nil
}

func parseNumber(place int, word string) (int, error) {
	for number, name := range cronWords[place] {
		if name == word && name != "" {
			return number, nil
		}
	}
	number, err := digits(word)
	if err != nil || number < cronSpans[place][0] || number > cronSpans[place][1] {
		return 0, errField
	}
	return number, nil
}

// digits reads a number of digits alone; one that is too large for anything is just large.
func digits(word string) (int, error) {
	if word == "" || len(word) > mostDigits || strings.Trim(word, "0123456789") != "" {
		return 0, errField
	}
	number, err := strconv.Atoi(word)
	if err != nil {
		return math.MaxInt32, nil
	}
	return min(number, math.MaxInt32), nil
}

func numbersFrom(first, last, step int) choice {
	var found choice
	for n := first; n <= last; n += step {
		found.numbers |= 1 << n
	}
	return found
}
