package interest

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/delayedq/delayed/interop/internal/errs"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// MostQueues is how many queues may have an interest.
const (
	MostQueues = 1000
	mostPairs  = 100
)

// Interest is what a queue wants to get of what is published.
type Interest struct {
	Queue    string
	Match    [][2]string // pairs of a pattern for the key of an entry and one for its value: one that fits is enough
	Function string
	Retry    int

	ready [][2]func(string) bool
}

// record is an Interest as it stands on Redis.
type record struct {
	Function string      `msgpack:"function"`
	Match    [][2]string `msgpack:"match"`
	Retry    int         `msgpack:"retry,omitempty"`
}

// Prepare checks an interest, and makes it ready to be asked. The error wraps ErrConfiguration.
func (i *Interest) Prepare() error {
	if _, err := rdb.NewKeys(i.Queue); err != nil {
		return err
	}
	if len(i.Match) == 0 || len(i.Match) > mostPairs {
		return fmt.Errorf("%w: an interest has 1 to %d pairs of patterns, not %d", errs.ErrConfiguration, mostPairs, len(i.Match))
	}
	i.ready = nil
	for _, pair := range i.Match {
		var ready [2]func(string) bool
		for side, pattern := range pair {
			is, err := Matcher(pattern)
			if err != nil {
				return err
			}
			ready[side] = is
		}
		i.ready = append(i.ready, ready)
	}
	first, second, python := strings.Cut(i.Function, wire.Separator)
	if !python {
		dot := max(strings.LastIndexByte(i.Function, '.'), 0)
		first, second = i.Function[:dot], strings.TrimPrefix(i.Function[dot:], ".")
	}
	if first == "" || second == "" {
		return fmt.Errorf("%w: %q is no path: write module.path:function (Python) or package/path.Function (Go)", errs.ErrConfiguration, i.Function)
	}
	return nil
}

// Pack is what stands on Redis.
func (i *Interest) Pack() (string, error) {
	var buffer bytes.Buffer
	encoder := msgpack.NewEncoder(&buffer)
	encoder.UseCompactInts(true)
	err := encoder.Encode(record{i.Function, i.Match, i.Retry})
	return buffer.String(), err
}

func (i *Interest) fits(entries []Entry) bool {
	for _, pair := range i.ready {
		for _, entry := range entries {
			if pair[0](entry.Key) && pair[1](entry.Value) {
				return true
			}
		}
	}
	return false
}

// Table has all interests, in the order in which the queues had their first.
type Table struct {
	Version   string
	Interests []*Interest
}

// NewTable reads the fields of the hash, as Redis gives them. What cannot be read counts for nothing: fsck says so.
func NewTable(fields map[string]string) *Table {
	t := &Table{Version: fields[""]}
	places := map[string]uint64{}
	for queue, value := range fields {
		place, packed, _ := strings.Cut(value, " ")
		var r record
		number, err := strconv.ParseUint(place, 10, 64)
		if queue == "" || err != nil || msgpack.Unmarshal([]byte(packed), &r) != nil {
			continue
		}
		i := &Interest{Queue: queue, Match: r.Match, Function: r.Function, Retry: r.Retry}
		if i.Prepare() == nil {
			places[queue] = number
			t.Interests = append(t.Interests, i)
		}
	}
	slices.SortFunc(t.Interests, func(a, b *Interest) int {
		if places[a.Queue] < places[b.Queue] {
			return -1
		}
		return 1
	})
	return t
}

// Fitting are those that something with these entries is for.
func (t *Table) Fitting(entries []Entry) []*Interest {
	var found []*Interest
	for _, each := range t.Interests {
		if each.fits(entries) {
			found = append(found, each)
		}
	}
	return found
}

// Matcher is what says whether a text is one that the pattern means: `regex:…`, `exact:…`, `glob:…`; without such a word it is a glob. The
// error wraps ErrConfiguration.
func Matcher(pattern string) (func(string) bool, error) {
	if !utf8.ValidString(pattern) {
		return nil, fmt.Errorf("%w: the pattern %.100q is no text in UTF-8", errs.ErrConfiguration, pattern)
	}
	if size := utf8.RuneCountInString(pattern); size > longest {
		return nil, fmt.Errorf("%w: a pattern has %d characters at most, not %d: %.100q", errs.ErrConfiguration, longest, size, pattern)
	}
	if text, found := strings.CutPrefix(pattern, "regex:"); found {
		if err := check(text); err != nil {
			return nil, err
		}
		return compiled(text)
	}
	if text, found := strings.CutPrefix(pattern, "exact:"); found {
		return func(other string) bool { return other == text }, nil
	}
	return glob(strings.TrimPrefix(pattern, "glob:"))
}

func compiled(expression string) (func(string) bool, error) {
	found, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("%w: the regular expression %.200q cannot be used: %w", errs.ErrConfiguration, expression, err)
	}
	return found.MatchString, nil
}

// glob is a matcher of a whole text: `*` is any text, `?` any character, and `\` makes the next one a character.
func glob(text string) (func(string) bool, error) {
	var expression, plain strings.Builder
	parts, wild, star, escaped := 0, false, false, false
	for _, char := range text {
		switch {
		case escaped || char != '\\' && char != '*' && char != '?':
			expression.WriteString(regexp.QuoteMeta(string(char)))
			plain.WriteRune(char)
			escaped = false
		case char == '\\':
			escaped = true
			continue
		case char == '*':
			wild = true
			if star {
				continue
			}
			expression.WriteString("(?s:.)*")
			star = true
			parts++
			continue
		default:
			wild = true
			expression.WriteString("(?s:.)")
		}
		star = false
		parts++
	}
	switch {
	case escaped:
		return nil, fmt.Errorf("%w: the pattern %.200q ends in a \\: for the character itself write \\\\", errs.ErrConfiguration, text)
	case !wild:
		exact := plain.String()
		return func(other string) bool { return other == exact }, nil
	case parts > largest:
		return nil, fmt.Errorf("%w: a pattern with * or ? has %d characters at most: %.100q", errs.ErrConfiguration, largest, text)
	}
	return compiled(`\A` + expression.String() + `\z`)
}
