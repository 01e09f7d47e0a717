package interest

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	most        = 1000 // entries
	read        = 4096 // characters of a text that are looked at
	deepestText = 16   // arrays in each other that become texts
	otherText   = "[object Object]"
)

// ErrMany says that there are too many entries.
var ErrMany = errors.New("what is published has 1,000 entries at most: put them into one value")

// Entry is what a pair of patterns is held against.
type Entry struct{ Key, Value string }

// Entries are the entries of a value in MessagePack, as texts. As in JavaScript, from which this comes: of a map its keys and values,
// of an array its places and elements, of a text its places and characters; anything else has none.
func Entries(data []byte) ([]Entry, error) {
	h, err := wire.HeadAt(data, 0)
	if err != nil {
		return nil, err
	}
	if _, err := wire.Skip(data, 0); err != nil {
		return nil, err
	}
	switch h.Kind {
	case wire.KindMap:
		if h.Values/2 > most {
			return nil, ErrMany
		}
		return ofMap(data, h), nil
	case wire.KindArray:
		var found []Entry
		at := h.Body
		for i := range min(h.Values, most) {
			found = append(found, Entry{strconv.Itoa(i), bounded(textAt(data, at, 0))})
			at, _ = wire.Skip(data, at)
		}
		return found, nil
	case wire.KindString, wire.KindBytes:
		var found []Entry
		text := string(data[h.Body : h.Body+h.Size])
		for len(text) > 0 && len(found) < most {
			_, size := utf8.DecodeRuneInString(text)
			found = append(found, Entry{strconv.Itoa(len(found)), bounded(text[:size])})
			text = text[size:]
		}
		return found, nil
	}
	return nil, nil
}

func ofMap(data []byte, h wire.Head) []Entry {
	var found []Entry
	at := h.Body
	for range h.Values / 2 {
		value, _ := wire.Skip(data, at)
		switch wire.ScalarAt(data, at).(type) {
		case string, int64, uint64:
			found = append(found, Entry{bounded(textAt(data, at, 0)), bounded(textAt(data, value, 0))})
		}
		at, _ = wire.Skip(data, value)
	}
	return found
}

// bounded is as much of a text as patterns look at, with U+FFFD for each byte that is not UTF-8.
func bounded(text string) string {
	var b strings.Builder
	count := 0
	for _, char := range text {
		if count == read {
			break
		}
		b.WriteRune(char)
		count++
	}
	return b.String()
}

// textAt is the value at pos as JavaScript makes a text of it.
func textAt(data []byte, pos, depth int) string {
	switch value := wire.ScalarAt(data, pos).(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(value)
	case int64:
		return strconv.FormatInt(value, 10)
	case uint64:
		return strconv.FormatUint(value, 10)
	case float64:
		return number(value)
	case string:
		return value
	}
	h, _ := wire.HeadAt(data, pos)
	if h.Kind != wire.KindArray || depth >= deepestText {
		return otherText
	}
	var parts []string
	at := h.Body
	for range min(h.Values, read) { // each element adds a comma at least: no more of them are looked at
		text := ""
		if wire.ScalarAt(data, at) != nil {
			text = textAt(data, at, depth+1)
		}
		parts = append(parts, text)
		at, _ = wire.Skip(data, at)
	}
	return strings.Join(parts, ",")
}

// number is a floating point number as JavaScript writes it.
func number(value float64) string {
	switch {
	case math.IsNaN(value):
		return "NaN"
	case math.IsInf(value, 1):
		return "Infinity"
	case math.IsInf(value, -1):
		return "-Infinity"
	case value == 0:
		return "0"
	case value < 0:
		return "-" + number(-value)
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(value, 'e', -1, 64), "e")
	digits := strings.Replace(mantissa, ".", "", 1)
	power, _ := strconv.Atoi(exponent)
	point := power + 1 // digits before the point
	switch {
	case len(digits) <= point && point <= 21:
		return digits + strings.Repeat("0", point-len(digits))
	case 0 < point && point <= 21:
		return digits[:point] + "." + digits[point:]
	case -6 < point && point <= 0:
		return "0." + strings.Repeat("0", -point) + digits
	}
	sign := "+"
	if point <= 0 {
		sign, power = "-", -power
	}
	if len(digits) > 1 {
		digits = digits[:1] + "." + digits[1:]
	}
	return digits + "e" + sign + strconv.Itoa(power)
}
