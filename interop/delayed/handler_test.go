package delayed

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/delayedq/delayed/interop/internal/wire"
)

type pair struct {
	A int
	B string
}

// callWith calls function with the arguments of a task.
func callWith(t *testing.T, function any, args ...any) error {
	t.Helper()
	data, err := NewGoTask("main.F", args...).Serialize()
	must(t, err)
	task, err := decode(data)
	must(t, err)
	h, err := newHandler("main.F", function)
	must(t, err)
	return h.call(context.Background(), task.payload)
}

func TestParameters(t *testing.T) {
	var saw []any
	one := 1
	ada := pair{1, "Ada"}
	cases := []struct {
		function any
		args     []any
		want     []any
	}{
		{func() { saw = append(saw, "none") }, nil, []any{"none"}},
		{func(a int) { saw = append(saw, a) }, []any{7}, []any{7}},
		{func(a int) { saw = append(saw, a) }, nil, []any{0}},
		{func(a *int) { saw = append(saw, *a) }, []any{&one}, []any{1}},
		{func(a *string) { saw = append(saw, *a) }, []any{[]string{"x"}}, []any{"x"}},
		{func(a []string) { saw = append(saw, a) }, []any{[]string{"x"}}, []any{[]string{"x"}}},
		{func(a any) { saw = append(saw, a) }, []any{[]byte{255}}, []any{[]byte{255}}},
		{func(a any) { saw = append(saw, a) }, []any{[]any{[]byte("x"), "x"}}, []any{[]any{[]byte("x"), "x"}}},
		{func(a *int) { saw = append(saw, a == nil) }, []any{nil}, []any{true}},
		{func(a pair) { saw = append(saw, a) }, []any{ada}, []any{ada}},
		{func(a pair) { saw = append(saw, a) }, []any{1, "Ada"}, []any{ada}},
		{func(a pair) { saw = append(saw, a) }, []any{map[string]any{"B": "Ada", "A": 1, "C": 2}}, []any{ada}},
		{func(a *pair) { saw = append(saw, *a) }, []any{&ada}, []any{ada}},
		{func(a int, b *pair) { saw = append(saw, a, *b) }, []any{1, []any{1, "Ada"}}, []any{1, ada}},
		{func(a []int, b ...int) { saw = append(saw, a, b) }, []any{[]int{1}, []int{2, 3}}, []any{[]int{1}, []int{2, 3}}},
		{func(a, b int, c ...int) { saw = append(saw, a, b, len(c)) }, []any{1, 2}, []any{1, 2, 0}},
		{func(a ...int) { saw = append(saw, a) }, []any{1, 2, 3}, []any{[]int{1, 2, 3}}},
		{func(a ...int) { saw = append(saw, a) }, []any{[]int{1, 2}}, []any{[]int{1, 2}}},
		{func(a ...int) { saw = append(saw, a) }, []any{5}, []any{[]int{5}}},
		{func(a ...int) { saw = append(saw, len(a)) }, nil, []any{0}},
		{func(a [3]int, b []byte) { saw = append(saw, a, b) }, []any{[]int{1, 2, 3}, []byte("x")}, []any{[3]int{1, 2, 3}, []byte("x")}},
		{func(ctx context.Context, a int) { saw = append(saw, ctx != nil, a) }, []any{3}, []any{true, 3}},
		{func(a any) { saw = append(saw, a) }, []any{map[int]string{-1: "x"}}, []any{map[any]any{int64(-1): "x"}}},
		{func(a any) { saw = append(saw, a) }, []any{map[string]int{"x": 300}}, []any{map[string]any{"x": int64(300)}}},
		{func(a, b any) { saw = append(saw, a, b) }, []any{uint64(math.MaxUint64), math.MinInt64}, []any{uint64(math.MaxUint64), int64(math.MinInt64)}},
		{func(a int8, b uint8, c float32) { saw = append(saw, a, b, c) }, []any{-128, 255, 1.5}, []any{int8(-128), uint8(255), float32(1.5)}},
		{func(a int, b time.Duration) { saw = append(saw, a, b) }, []any{3.0, time.Second}, []any{3, time.Second}},
	}
	for i, c := range cases {
		t.Run(fmt.Sprint(i, reflect.TypeOf(c.function)), func(t *testing.T) {
			saw = nil
			err := callWith(t, c.function, c.args...)
			if err != nil || !reflect.DeepEqual(saw, c.want) {
				t.Fatalf("saw %#v, %v", saw, err)
			}
		})
	}
}

func TestBadArguments(t *testing.T) {
	cases := []struct {
		function any
		args     []any
	}{
		{func() {}, []any{1}},
		{func(int) {}, []any{"x"}},
		{func(string) {}, []any{[]string{"x", "y"}}},
		{func(int) {}, []any{1.5}},
		{func(int8) {}, []any{128}},
		{func(uint8) {}, []any{-1}},
		{func(int64) {}, []any{uint64(math.MaxUint64)}},
		{func(int, int) {}, []any{1}},
		{func(int, int) {}, []any{1, 2, 3}},
		{func(int, ...int) {}, []any{1, 2}},
		{func([2]int) {}, []any{[]int{1, 2, 3}}},
		{func(pair) {}, []any{[]any{"x", "y"}}},
		{func(map[string]int) {}, []any{map[string]string{"a": "b"}}},
		{func(any) {}, []any{wire.Raw{0x81, 0x91, 0x01, 0x02}}}, // an array as a key
		{func(time.Time) {}, []any{"x"}},
	}
	for i, c := range cases {
		err := callWith(t, c.function, c.args...)
		var refusal *Unrunnable
		if !errors.As(err, &refusal) || refusal.Reason != BadArguments {
			t.Errorf("%d %T %v: %v", i, c.function, c.args, err)
		}
	}
}

type nested []nested

func named(nested) {}

type method struct{}

func (method) Send(string)    {}
func (*method) Receive([]int) {}

func TestWhatCannotBeRegistered(t *testing.T) {
	worker := newWorker(t, newQueue(t), nil)
	outer := func() any { return func(int) {} }
	var none func()
	for _, function := range []any{
		1, nil, none, func() {}, outer(), func(context.Context, chan int) {}, func(func()) {}, func([]chan int) {}, func(map[string]func()) {},
		func(...*chan int) {}, func(error) {}, func(int, context.Context) {}, func(complex128) {}, func(unsafe.Pointer) {},
	} {
		if err := worker.Register(function); !errors.Is(err, ErrConfiguration) {
			t.Errorf("%T: %v", function, err)
		}
	}
	for path, function := range map[string]any{
		"a": func(chan int) {}, "b": func(string, map[string][]func()) {}, "c": func(error) {}, "": func() {},
	} {
		if err := worker.RegisterAs(path, function); !errors.Is(err, ErrConfiguration) || path == "a" && !strings.Contains(err.Error(), "chan int") {
			t.Errorf("%T: %v", function, err)
		}
	}
	for _, function := range []any{named, method.Send, (*method).Receive, method{}.Send, (&method{}).Receive} {
		must(t, worker.Register(function))
	}
	for i, function := range []any{
		func(any, *int, []byte, time.Time, map[any]any, ...string) {}, func(context.Context, *pair, []pair, netip.Addr, big.Int, [3]int) {},
	} {
		must(t, worker.RegisterAs(fmt.Sprint("p", i), function))
	}
	if len(worker.handlers) != 7 {
		t.Error(len(worker.handlers))
	}
}

func TestArgumentsAreFreshForEachTask(t *testing.T) {
	var kept []*pair
	h, err := newHandler("main.F", func(p *pair) { kept = append(kept, p) })
	must(t, err)
	must(t, h.call(context.Background(), []byte("\x92\x01\xa3Ada")))
	must(t, h.call(context.Background(), []byte("\x91\x02")))
	if *kept[0] != (pair{1, "Ada"}) || *kept[1] != (pair{2, ""}) {
		t.Fatalf("%v %v", kept[0], kept[1])
	}
}

func TestInstants(t *testing.T) {
	var saw time.Time
	h, err := newHandler("main.F", func(at time.Time) { saw = at })
	must(t, err)
	for text, want := range map[string]time.Time{
		"d6ff00000001":                   time.Unix(1, 0),
		"d7ff0000000400000001":           time.Unix(1, 1),
		"c70cff00000001ffffffffffffffff": time.Unix(-1, 1),
		"c70cff0000000000000001ffffffff": time.Unix(1<<33-1, 0),
	} {
		data, err := hex.DecodeString(text)
		must(t, err)
		must(t, h.call(context.Background(), data))
		if !saw.Equal(want) {
			t.Errorf("%s: %s", text, saw)
		}
	}
	for _, at := range []time.Time{time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC),
		time.Date(2106, 2, 8, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)} {
		data, err := wire.Encode(at, true)
		must(t, err)
		must(t, h.call(context.Background(), data))
		if !saw.Equal(at) {
			t.Errorf("%s became %s", at, saw)
		}
	}
}

func TestStructsRoundTrip(t *testing.T) {
	when := time.Unix(4102444800, 7)
	want := outer{A: -8, B: 1 << 63, Inner: inner{when, []byte{1}}, Deep: &inner{Raw: []byte("x")}, Many: map[int]inner{-1: {Raw: []byte{}}}}
	for _, arrays := range []bool{true, false} {
		data, err := wire.Encode(want, arrays)
		must(t, err)
		var got outer
		must(t, wire.NewDecoder(data).Into(reflect.ValueOf(&got).Elem()))
		if !got.Inner.When.Equal(when) {
			t.Errorf("%v", got)
		}
		got.Inner.When = when // equal instants may differ in their zone
		got.Deep.When, want.Deep.When = when, when
		got.Many, want.Many = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v", got)
		}
	}
}

func TestResults(t *testing.T) {
	boom := errors.New("boom")
	for i, function := range []any{
		func() error { return boom }, func() (int, error) { return 1, boom }, func(context.Context) error { return boom },
		func(...int) error { return boom },
	} {
		h, err := newHandler("main.F", function)
		must(t, err)
		if err := h.call(context.Background(), nil); !errors.Is(err, boom) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, err := newHandler("main.F", 3); !errors.Is(err, ErrConfiguration) {
		t.Error(err)
	}
}
