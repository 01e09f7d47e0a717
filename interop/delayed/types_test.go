package delayed

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/vmihailenco/msgpack/v5"
)

type typeVector struct {
	Name, Kind, Hex string
	Value           any
	Canonical       bool
}

func typeVectors(t *testing.T) []typeVector {
	t.Helper()
	text, err := os.ReadFile("../../tests/vectors/types.json")
	must(t, err)
	var file struct{ Vectors []typeVector }
	must(t, json.Unmarshal(text, &file))
	return file.Vectors
}

// meant is the value of a vector in our own types.
func (v typeVector) meant(t *testing.T) any {
	t.Helper()
	if list, ok := v.Value.([]any); ok {
		return Set(append([]any{}, integers(list).([]any)...))
	}
	text := v.Value.(string)
	switch v.Kind {
	case "decimal":
		return Decimal(text)
	case "uuid":
		id, err := ParseUUID(text)
		must(t, err)
		return id
	case "date":
		day, err := time.Parse(time.DateOnly, text)
		must(t, err)
		return DateOf(day)
	case "time":
		at, err := time.Parse("15:04:05.999999999", text)
		must(t, err)
		return TimeOfDay{Hour: at.Hour(), Minute: at.Minute(), Second: at.Second(), Nanosecond: at.Nanosecond()}
	case "timedelta":
		microseconds, err := strconv.ParseInt(text, 10, 64)
		must(t, err)
		return Duration(time.Duration(microseconds) * time.Microsecond)
	}
	return Path(text)
}

func TestTypeVectors(t *testing.T) {
	for _, vector := range typeVectors(t) {
		t.Run(vector.Name, func(t *testing.T) {
			data, err := hex.DecodeString(vector.Hex)
			must(t, err)
			read, err := wire.NewDecoder(data).Anything()
			if vector.Kind == "invalid" {
				if err == nil {
					t.Fatalf("read %#v", read)
				}
				return
			}
			must(t, err)
			meant := vector.meant(t)
			if !sameValue(read, meant) {
				t.Fatalf("read %#v, not %#v", read, meant)
			}
			if !vector.Canonical || vector.Kind == "frozenset" { // Go has one kind of set
				return
			}
			written, err := wire.Encode(meant, true)
			must(t, err)
			if !bytes.Equal(written, data) {
				t.Fatalf("wrote %x", written)
			}
		})
	}
}

// sameValue compares what was read to what was meant: sets have no order, decimals may be written in lower case, and Python has
// only microseconds.
func sameValue(read, meant any) bool {
	switch meant := meant.(type) {
	case Set:
		set, ok := read.(Set)
		missing := func(value any) bool { return !slices.Contains(set, value) }
		return ok && len(set) == len(meant) && !slices.ContainsFunc(meant, missing)
	case Decimal:
		return strings.EqualFold(strings.ReplaceAll(string(read.(Decimal)), "E+", "E"), strings.ReplaceAll(string(meant), "E+", "E"))
	case Duration:
		return time.Duration(read.(Duration)).Round(time.Microsecond) == time.Duration(meant)
	}
	return reflect.DeepEqual(read, meant)
}

type textual struct{ text string }

func (o *textual) UnmarshalText(text []byte) error { o.text = string(text); return nil }

type foreignUUID [16]byte

type purchase struct {
	Total *big.Rat
	Day   time.Time
	After time.Duration
	Tags  map[string]struct{}
	Of    foreignUUID
}

func TestAFunctionTakesTypesThatAreUsualInGo(t *testing.T) {
	id := UUID{1, 2, 3, 15: 16}
	var got []any
	keep := func(values ...any) error { got = values; return nil }
	day, noon := Date{Year: 2024, Month: 2, Day: 29}, TimeOfDay{Hour: 12, Nanosecond: 500}
	length := Duration(90 * time.Second)
	for _, test := range []struct {
		function any
		args     []any
		want     []any
	}{
		{func(a Decimal, b string, c *big.Rat, d big.Rat) error {
			return keep(a, b, c.FloatString(2), d.FloatString(1))
		},
			[]any{Decimal("1.50"), Decimal("1.50"), Decimal("1.50"), Decimal("2E-1")}, []any{Decimal("1.50"), "1.50", "1.50", "0.2"}},
		{func(a UUID, b [16]byte, c string, d []byte, e textual) error { return keep(a, b, c, d, e.text) },
			[]any{id, id, id, id, id}, []any{id, [16]byte(id), id.String(), id[:], id.String()}},
		{func(a Date, b time.Time, c string) error { return keep(a, b, c) },
			[]any{day, day, day}, []any{day, day.In(time.UTC), "2024-02-29"}},
		{func(a TimeOfDay, b string, c Duration, d time.Duration) error { return keep(a, b, c, d) },
			[]any{noon, noon, length, length}, []any{noon, "12:00:00.000000500", length, 90 * time.Second}},
		{func(a Path, b string) error { return keep(a, b) }, []any{Path("/a"), Path("/b")}, []any{Path("/a"), "/b"}},
		{func(a []int, b map[string]struct{}, c map[UUID]bool) error { return keep(a, b, c) },
			[]any{Set{2, 1}, Set{"a", "a"}, Set{id}}, []any{[]int{1, 2}, map[string]struct{}{"a": {}}, map[UUID]bool{id: true}}},
		{func(a, b any, c map[UUID]Date) error { return keep(a, b, c) },
			[]any{[]any{id, day}, Set{Set{int64(1)}}, map[UUID]Date{id: day}}, []any{[]any{id, day}, Set{Set{int64(1)}}, map[UUID]Date{id: day}}},
		{func(p *purchase) error { return keep(p.Total.String(), p.Day, p.After, p.Tags, p.Of) },
			[]any{[]any{Decimal("3"), day, length, Set{"x"}, id}},
			[]any{"3/1", day.In(time.UTC), 90 * time.Second, map[string]struct{}{"x": {}}, foreignUUID(id)}},
		{func(a Decimal, b UUID, c Date, d TimeOfDay) error { return keep(a, b, c, d) }, // as JSON has them
			[]any{"1.5", id.String(), "2024-02-29", "12:00:00.0000005"}, []any{Decimal("1.5"), id, day, noon}},
		{func(a UUID) error { return keep(a) }, []any{[]any{id}}, []any{id}},
		{func(a *UUID) error { return keep(*a) }, []any{id}, []any{id}},
	} {
		h, err := newHandler("f", test.function)
		must(t, err)
		data, err := NewGoTask("f", test.args...).Serialize()
		must(t, err)
		task, err := decode(data)
		must(t, err)
		must(t, h.call(context.Background(), task.payload))
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%T got %#v", test.function, got)
		}
	}
}

func TestWhatDoesNotFitIsBadArguments(t *testing.T) {
	for _, test := range []struct {
		function any
		argument any
		says     string
	}{
		{func(float64) {}, Decimal("1.5"), ""},
		{func(int) {}, Duration(5), ""},
		{func(time.Time) {}, UUID{}, "a UUID does not fit time.Time"},
		{func(UUID) {}, "x", "is not a UUID"},
		{func(Date) {}, "2024-02-30", "is not a date"},
		{func(map[string]int) {}, Set{1}, "a set does not fit map"},
		{func(*big.Rat) {}, Decimal("1E999999999"), "an exponent beyond 1000"},
		{func(*big.Rat) {}, Decimal("NaN"), ""},
		{func(time.Duration) {}, extended(5, "99999999999999"), "292 years"},
		{func(any) {}, extended(31, ""), "does not know: upgrade it"},
		{func(any) {}, extended(40, ""), "extension type 40"},
		{func(string) {}, extended(40, ""), ""},
	} {
		h, err := newHandler("f", test.function)
		must(t, err)
		payload, err := wire.Encode(test.argument, true)
		must(t, err)
		err = h.call(context.Background(), payload)
		var refusal *Unrunnable
		if !errors.As(err, &refusal) || refusal.Reason != BadArguments || !strings.Contains(refusal.Detail, test.says) {
			t.Errorf("%T with %#v: %v", test.function, test.argument, err)
		}
	}
}

func extended(code int8, payload string) wire.Raw {
	var buffer bytes.Buffer
	_ = msgpack.NewEncoder(&buffer).EncodeExtHeader(code, len(payload))
	return append(buffer.Bytes(), payload...)
}

func TestWhatHasNoFormIsNotSent(t *testing.T) {
	itself := Set{nil}
	itself[0] = itself
	around := Set{nil}
	around[0] = struct{ *Set }{&around}
	loop := []any{nil}
	loop[0] = loop
	for _, value := range []any{Decimal("x"), Date{Year: 2024, Month: 2, Day: 30}, Date{}, TimeOfDay{Hour: 24}, itself, around,
		Set{loop}, Set{Set{Set{Set{Set{}}}}}} {
		if _, err := NewGoTask("f", value).Serialize(); !errors.Is(err, ErrNotEncodable) {
			t.Errorf("%T: %v", value, err)
		}
	}
}

func TestSetsInSetsEndSomewhere(t *testing.T) {
	value := wire.Raw{0x90}
	for range 2000 {
		value = append(wire.Raw{0x91}, extended(7, string(value))...)
	}
	_, err := wire.NewDecoder(value).Anything()
	if err == nil || !strings.Contains(err.Error(), "4 others") {
		t.Fatal(err)
	}
}

func TestOddPayloadsOfExtensionTypesAreErrors(t *testing.T) {
	types := []any{new(any), new(Decimal), new(UUID), new(Date), new(TimeOfDay), new(time.Duration), new(string), new([]any), new(big.Rat),
		new(map[string]struct{}), new(time.Time), new([16]byte)}
	for code := range int8(40) {
		for _, payload := range []string{"", "\x00", "1", "\x93\x01", "\xdd\xff\xff\xff\xff", "\x91\xc7\xff\x07",
			"1e99999999999", "-", strings.Repeat("9", 5000),
			"0001-01-01", "\xff\xfe"} {
			for _, into := range types {
				_ = wire.NewDecoder(extended(code, payload)).Into(reflect.ValueOf(into).Elem())
			}
			_ = wire.NewDecoder(extended(code, payload)[:1]).Into(reflect.ValueOf(new(any)).Elem())
		}
	}
}

func ExampleSet() {
	data, _ := NewPyTask("shop.jobs:pay", []any{Decimal("9.90"), DateOf(time.Unix(0, 0).UTC()), Set{"b", "a"}}, nil).Serialize()
	fmt.Printf("%q\n", data)
	// Output: "\x92\xadshop.jobs:pay\x93\xd6\x019.90\xc7\n\x031970-01-01\xc7\x05\a\x92\xa1a\xa1b"
}
