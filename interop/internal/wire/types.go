package wire

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// The extension types of docs/protocol.md, section 2.
const (
	codeDecimal = 1 + iota
	codeUUID
	codeDate
	codeTime
	codeDuration
	codePath
	codeSet
	codeFrozenSet
	lastReserved = 31 // others up to this are of later versions
)

var codeNames = map[int8]string{
	codeDecimal: "Decimal", codeUUID: "UUID", codeDate: "date", codeTime: "time", codeDuration: "timedelta", codePath: "Path",
	codeSet: "set", codeFrozenSet: "frozenset",
}

// Decimal is a decimal number as text, as in "12.50" or "1E+3": Python's Decimal.
type Decimal string

// UUID is Python's UUID.
type UUID [16]byte

// Date is a day of the calendar: Python's date.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// TimeOfDay is a time of no certain day: Python's time without a time zone.
type TimeOfDay struct{ Hour, Minute, Second, Nanosecond int }

// Duration is a time.Duration that arrives in Python as timedelta; a time.Duration itself is sent as its nanoseconds.
type Duration time.Duration

// Path is the path of a file: Python's Path.
type Path string

// Set has values without an order, each once: Python's set. It is sent in the order of the bytes of its values.
type Set []any

const mostExponent = 1000 // beyond it a few bytes would stand for a number of any size

var (
	decimalForm = regexp.MustCompile(`^[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[Ee]([+-]?[0-9]+))?|Infinity|s?NaN[0-9]*)$`)
	timeForm    = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,9}))?$`)
	secondsForm = regexp.MustCompile(`^(-?)([0-9]{1,14})(?:\.([0-9]{1,9}))?$`)
)

// Rat is the number; an error if it is none, or its exponent is beyond 1,000.
func (d Decimal) Rat() (*big.Rat, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if rat, ok := new(big.Rat).SetString(string(d)); ok {
		return rat, nil
	}
	return nil, fmt.Errorf("%.40q is no finite number", string(d))
}

// check sees that it is a number without a huge exponent.
func (d Decimal) check() error {
	parts := decimalForm.FindStringSubmatch(string(d))
	if parts == nil {
		return fmt.Errorf("%.40q is not a decimal number", string(d))
	}
	if exponent, err := strconv.Atoi(cmp.Or(parts[1], "0")); err != nil || exponent > mostExponent || exponent < -mostExponent {
		return fmt.Errorf("%.40q has an exponent beyond %d", string(d), mostExponent)
	}
	return nil
}

// ParseUUID reads the usual form of 36 characters.
func ParseUUID(text string) (UUID, error) {
	var u UUID
	plain := strings.ReplaceAll(text, "-", "")
	if _, err := hex.Decode(u[:], []byte(plain[:min(len(plain), 32)])); err != nil || len(plain) != 32 || u.String() != strings.ToLower(text) {
		return UUID{}, fmt.Errorf("%.40q is not a UUID", text)
	}
	return u, nil
}

// String is the usual form of 36 characters.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// DateOf is the day of a time, where that is.
func DateOf(t time.Time) Date { return Date{t.Year(), t.Month(), t.Day()} }

// String is the form 2006-01-02.
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }

// In is the beginning of the day in a time zone.
func (d Date) In(location *time.Location) time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, location)
}

func parseDate(text string) (Date, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil || t.Year() < 1 {
		return Date{}, fmt.Errorf("%.40q is not a date", text)
	}
	return DateOf(t), nil
}

// String is the form 15:04:05, with six or nine digits after a point if it needs them.
func (t TimeOfDay) String() string {
	text := fmt.Sprintf("%02d:%02d:%02d", t.Hour, t.Minute, t.Second)
	switch {
	case t.Nanosecond == 0:
		return text
	case t.Nanosecond%1000 == 0:
		return fmt.Sprintf("%s.%06d", text, t.Nanosecond/1000)
	}
	return fmt.Sprintf("%s.%09d", text, t.Nanosecond)
}

func parseTime(text string) (TimeOfDay, error) {
	parts := timeForm.FindStringSubmatch(text)
	if parts == nil {
		return TimeOfDay{}, fmt.Errorf("%.40q is not a time of day", text)
	}
	return TimeOfDay{int(digits(parts[1])), int(digits(parts[2])), int(digits(parts[3])), int(nanoseconds(parts[4]))}, nil
}

// digits is the number of a text that has only digits.
func digits(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// nanoseconds are those of the digits after a point.
func nanoseconds(fraction string) int64 { return digits((fraction + "000000000")[:9]) }

func parseDuration(text string) (time.Duration, error) {
	parts := secondsForm.FindStringSubmatch(text)
	if parts == nil {
		return 0, fmt.Errorf("%.40q is not a number of seconds", text)
	}
	seconds := digits(parts[2])
	if seconds > int64((1<<63-1)/time.Second)-1 {
		return 0, errors.New("a time.Duration reaches to 292 years, and this is longer")
	}
	d := time.Duration(seconds)*time.Second + time.Duration(nanoseconds(parts[3]))
	if parts[1] != "" {
		d = -d
	}
	return d, nil
}

func (d Duration) text() string {
	whole, rest := int64(d)/1e9, int64(d)%1e9
	sign := ""
	if d < 0 {
		sign, whole, rest = "-", -whole, -rest
	}
	if rest == 0 {
		return fmt.Sprintf("%s%d", sign, whole)
	}
	return strings.TrimRight(fmt.Sprintf("%s%d.%09d", sign, whole, rest), "0")
}

// EncodeMsgpack writes the extension type, as do those of the others.
func (d Decimal) EncodeMsgpack(e *msgpack.Encoder) error {
	if !decimalForm.MatchString(string(d)) {
		return fmt.Errorf("%.40q is not a decimal number", string(d))
	}
	return extend(e, codeDecimal, []byte(d))
}

func (u UUID) EncodeMsgpack(e *msgpack.Encoder) error { return extend(e, codeUUID, u[:]) }

func (d Date) EncodeMsgpack(e *msgpack.Encoder) error {
	if _, err := parseDate(d.String()); err != nil {
		return err
	}
	return extend(e, codeDate, []byte(d.String()))
}

func (t TimeOfDay) EncodeMsgpack(e *msgpack.Encoder) error {
	if _, err := parseTime(t.String()); err != nil {
		return err
	}
	return extend(e, codeTime, []byte(t.String()))
}

func (d Duration) EncodeMsgpack(e *msgpack.Encoder) error {
	return extend(e, codeDuration, []byte(d.text()))
}

func (p Path) EncodeMsgpack(e *msgpack.Encoder) error { return extend(e, codePath, []byte(p)) }

// nestedBuffer is what the values in a set are written to: by its depth, sets that contain each other come to an end.
type nestedBuffer struct {
	bytes.Buffer
	depth int
}

func (s Set) EncodeMsgpack(e *msgpack.Encoder) error {
	depth := 1
	if outer, ok := e.Writer().(*nestedBuffer); ok {
		depth = outer.depth + 1
	}
	if depth > mostNestedSets {
		return fmt.Errorf("sets are in each other %d levels deep at most", mostNestedSets)
	}
	elements := make([][]byte, len(s))
	for i, element := range s {
		if err := packable(element, math.MaxInt); err != nil {
			return err
		}
		buffer := nestedBuffer{depth: depth}
		if err := encodeTo(&buffer, element, true); err != nil {
			return err
		}
		elements[i] = buffer.Bytes()
	}
	slices.SortFunc(elements, bytes.Compare)
	var payload bytes.Buffer
	if err := msgpack.NewEncoder(&payload).EncodeArrayLen(len(elements)); err != nil {
		return err
	}
	for _, element := range elements {
		payload.Write(element)
	}
	return extend(e, codeSet, payload.Bytes())
}

func extend(e *msgpack.Encoder, code int8, payload []byte) error {
	if err := e.EncodeExtHeader(code, len(payload)); err != nil {
		return err
	}
	_, err := e.Writer().Write(payload)
	return err
}
