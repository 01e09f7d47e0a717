package delayed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// What a task returns, panics with or takes may have methods that do anything.

type dereferences struct{ text string }

func (d *dereferences) Error() string { return d.text }

type panics struct{}

func (panics) Error() string          { panic("no words") }
func (panics) Unwrap() error          { panic("no cause") }
func (panics) Is(error) bool          { panic("no likeness") }
func (panics) As(any) bool            { panic("no type") }
func (panics) String() string         { panic("no text") }
func (panics) Format(fmt.State, rune) { panic("no format") }

type joinPanics struct{}

func (joinPanics) Error() string   { return "joined" }
func (joinPanics) Unwrap() []error { panic(panics{}) }

type exits struct{}

func (exits) Error() string { runtime.Goexit(); return "" }

type wrapsItself struct{}

func (w *wrapsItself) Error() string { return "round and round" }
func (w *wrapsItself) Unwrap() error { return w }

type joinsItself struct{}

func (j *joinsItself) Error() string   { return "many" }
func (j *joinsItself) Unwrap() []error { return []error{j, j, nil} }

type packsBadly struct{}

func (packsBadly) MarshalMsgpack() ([]byte, error) { panic("it cannot be packed") }

type encodesBadly struct{}

func (encodesBadly) EncodeMsgpack(*msgpack.Encoder) error { panic(panics{}) }

type marshalsBadly struct{}

func (marshalsBadly) MarshalBinary() ([]byte, error) { return nil, panics{} }

type readsBadly struct{}

func (*readsBadly) UnmarshalMsgpack([]byte) error { panic("it cannot be read") }

type refusesToBeRead struct{}

func (*refusesToBeRead) DecodeMsgpack(*msgpack.Decoder) error { return panics{} }

type textsBadly struct{}

func (*textsBadly) UnmarshalText([]byte) error { runtime.Goexit(); return nil }

type ring struct{ Next *ring }

type itself *itself

type embedsItself struct{ *embedsItself }

func endless() (ringed *ring, mapped map[string]any, listed []any, pointed *any) {
	ringed, mapped, listed = &ring{}, map[string]any{}, make([]any, 1)
	ringed.Next, mapped["x"], listed[0] = ringed, mapped, listed
	var self any
	self = &self
	return ringed, mapped, listed, &self
}

func deep(levels int) any {
	value := any(0)
	for range levels {
		value = []any{value}
	}
	return value
}

// hostile are functions whose failures have to say these words.
func hostile() (functions map[string]any, words map[string]string) {
	ringed, mapped, listed, pointed := endless()
	var null itself
	functions, words = map[string]any{}, map[string]string{}
	for name, c := range map[string]struct {
		function any
		word     string
	}{
		"TypedNil":     {func() error { var e *dereferences; return e }, "nil *delayed.dereferences returned as an error"},
		"NilRefusal":   {func() error { var e *Unrunnable; return e }, "nil *delayed.Unrunnable returned as an error"},
		"Refusal":      {func() error { return &Unrunnable{UnknownHeader, "mine"} }, "delayed.Unrunnable: unknown_header: mine"},
		"Error":        {func() error { return panics{} }, "its Error method panics"},
		"ErrorResult":  {func() (int, error) { return 1, panics{} }, "its Error method panics"},
		"Wrapped":      {func() error { return fmt.Errorf("it: %w", panics{}) }, "it: "},
		"Joined":       {func() error { return joinPanics{} }, "joined"},
		"Exit":         {func() error { return exits{} }, "runtime.Goexit"},
		"ExitAtOnce":   {func() { runtime.Goexit() }, "runtime.Goexit"},
		"WrapsItself":  {func() error { return &wrapsItself{} }, "round and round"},
		"JoinsItself":  {func() error { return &joinsItself{} }, "many"},
		"Panic":        {func() { panic(panics{}) }, "its Error method panics"},
		"PanicNil":     {func() { panic(nil) }, "PanicNil"},
		"PanicExit":    {func() { panic(exits{}) }, "runtime.Goexit"},
		"PanicRing":    {func() { panic(ringed) }, "delayed.ring: &{0x"},
		"PanicMap":     {func() { panic(mapped) }, "contains itself"},
		"PanicList":    {func() { panic(listed) }, "contains itself"},
		"PanicPointer": {func() { panic(pointed) }, "contains itself"},
		"Read":         {func(readsBadly) {}, "it cannot be read"},
		"Refused":      {func(refusesToBeRead) {}, "PANIC"},
		"ReadExit":     {func(textsBadly) {}, "runtime.Goexit"},
		"Lazy":         {func() func() { return func() {} }, "nobody calls"},
		"Sequence":     {func() (any, error) { return maps.Keys(map[int]int{}), nil }, "nobody calls"},
		"Channel":      {func() <-chan int { return make(chan int) }, "nobody calls"},
	} {
		functions["m."+name], words["m."+name] = c.function, c.word
	}
	for name, c := range map[string]struct { // these matter if the result is kept
		function any
		word     string
	}{
		"Packs":    {func() packsBadly { return packsBadly{} }, "it cannot be packed"},
		"Encodes":  {func() any { return encodesBadly{} }, "panic"},
		"Marshals": {func() []any { return []any{marshalsBadly{}} }, "MessagePack cannot carry"},
		"Ring":     {func() *ring { return ringed }, "contains itself"},
		"Map":      {func() any { return mapped }, "contains itself"},
		"List":     {func() []any { return listed }, "contains itself"},
		"Pointer":  {func() *any { return pointed }, "contains itself"},
		"Both":     {func() (any, any) { return 1, mapped }, "contains itself"},
		"Itself":   {func() itself { return null }, "contains itself"},
		"Embeds":   {func() any { return embedsItself{} }, "contains itself"},
		"Deep":     {func() any { return deep(wire.DeepestValue + 1) }, "deeper than"},
		"Value":    {func() error { return nil }, ""},
	} {
		functions["m.Kept"+name], words["m.Kept"+name] = c.function, c.word
	}
	delete(functions, "m.KeptValue")
	return functions, words
}

func TestNothingThatATaskReturnsEndsItsWorker(t *testing.T) {
	functions, words := hostile()
	for name, options := range map[string][]TaskOption{
		"plain":            nil,
		"tracked":          {Track()},
		"with a result":    {ResultTTL(time.Minute)},
		"retried":          {Retry(1), RetryOn("NoType"), GiveUpOn("Neither")},
		"within a timeout": {Timeout(time.Minute), HardTimeout(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue, beside := newQueue(t), make(chan struct{})
			all := maps.Clone(functions)
			all["m.Beside"] = func() { <-beside }
			enqueue(t, queue, NewGoTask("m.Beside"))
			want := map[string]string{}
			for _, path := range slices.Sorted(maps.Keys(functions)) {
				kept := strings.HasPrefix(path, "m.Kept")
				if !kept || name == "with a result" {
					want[path] = words[path]
				}
				task := NewGoTask(path, []byte("x"))
				if _, bare := functions[path].(func() error); bare || reflect.TypeOf(functions[path]).NumIn() == 0 {
					task = NewGoTask(path)
				}
				enqueue(t, queue, task.With(options...))
			}
			worker := start(t, queue, all, Concurrency(2))
			eventually(t, "all have ended", func() bool { return worker.finished.Load() == int64(len(functions)) })
			close(beside)
			for _, letter := range deadLetters(t, queue) {
				path := pathIn([]byte(letter.task))
				word, found := want[path]
				if delete(want, path); !found || !strings.Contains(letter.detail, word) {
					if name == "with a result" && strings.Contains(letter.detail, "MessagePack cannot carry") {
						continue
					}
					t.Errorf("%s: %s %.300s", path, letter.reason, letter.detail)
				}
			}
			if len(want) > 0 {
				t.Errorf("no dead letters: %v", want)
			}
		})
	}
}

func TestHowDeepAResultMayBe(t *testing.T) {
	queue := newQueue(t)
	shared := any("x")
	for range 40 { // 2⁴⁰ values, in 40 lists
		shared = []any{shared, shared}
	}
	worker := newWorker(t, queue, map[string]any{"m.Deep": func() any { return deep(wire.DeepestValue) }, "m.Many": func() any { return shared }}, Burst())
	worker.resultSize = 1 << 20
	deepest, many := submit(t, queue, NewGoTask("m.Deep").With(ResultTTL(time.Minute))), submit(t, queue, NewGoTask("m.Many").With(ResultTTL(time.Minute)))
	must(t, worker.Run(ctx))
	var value any
	must(t, deepest.Result(soon(t), &value))
	for range wire.DeepestValue {
		value = value.([]any)[0]
	}
	if value != int64(0) {
		t.Error(value)
	}
	failure := failedAs(t, many)
	if failure.Kind != "delayed.resultTooLarge" || !strings.Contains(failure.Message, "more than 1048576 bytes") {
		t.Errorf("%+v", failure)
	}
	if _, err := NewGoTask("m.F", map[string]any{"x": func() any { _, m, _, _ := endless(); return m }()}).Serialize(); !errors.Is(err, ErrNotEncodable) {
		t.Error(err)
	}
}

// A pointer to its own type would exhaust the stack while its first argument is read.
func TestAnEndlessParameterIsRefused(t *testing.T) {
	worker := newWorker(t, newQueue(t), nil)
	for _, function := range []any{func(itself) {}, func(...itself) {}, func(embedsItself) {}} {
		if err := worker.RegisterAs("m.F", function); !errors.Is(err, ErrConfiguration) {
			t.Errorf("%T: %v", function, err)
		}
	}
}

func TestWhatIdentifiesAFailureSurvives(t *testing.T) {
	long := strings.Repeat("é", longestDetail)
	f := failed(&dereferences{"first " + long + " last"}).(*failure)
	for _, text := range []string{f.detail(), f.text} {
		if len(text) > longestDetail || !strings.Contains(text, "first ") || !strings.HasSuffix(text, " last") || strings.Contains(text, "\uFFFD") {
			t.Errorf("%d bytes: %.100s", len(text), text)
		}
	}
	if !strings.HasPrefix(f.detail(), "delayed.dereferences: first ") {
		t.Errorf("%.100s", f.detail())
	}
	for value, want := range map[any]string{
		long:                      "panic: éé",
		&dereferences{"x" + long}: "panic: delayed.dereferences: xéé",
		[1]string{"x" + long}:     "panic: [1]string: [xéé",
		runtime.Error((*runtime.PanicNilError)(nil)): "panic: runtime.PanicNilError: ",
	} {
		detail := outermost(value).detail()
		text, stack, _ := strings.Cut(detail, "\n\n")
		if len(detail) > longestDetail || !strings.HasPrefix(text, want) || !strings.Contains(stack, "delayed.innermost(") ||
			!strings.HasPrefix(stack, "panic(") {
			t.Errorf("%.60s … %.300s", text, stack)
		}
	}
}

func outermost(value any) *failure {
	var err error
	func() {
		defer catchPanic(&err)
		innermost(value, 200)
	}()
	return err.(*failure)
}

func innermost(value any, depth int) {
	if depth > 0 {
		innermost(value, depth-1)
	}
	panic(value)
}

type busyError struct{}

func (busyError) Error() string { return "busy" }

type brokenError struct{}

func (brokenError) Error() string { return "broken" }

func TestJoinedErrors(t *testing.T) {
	again := func(d time.Duration) error { return RetryAfter(d) }
	busy, broken := error(busyError{}), error(brokenError{})
	only, never := wire.Header{Name: "retry_on", Value: []any{"busyError"}}, wire.Header{Name: "give_up_on", Value: []any{"delayed.brokenError"}}
	for i, c := range []struct {
		err     error
		headers []wire.Header
		again   bool
		counted bool
		pause   time.Duration
	}{
		{errors.Join(busy, busy), []wire.Header{only}, true, true, 0},
		{errors.Join(busy, broken), []wire.Header{only}, false, false, 0},
		{errors.Join(busy, broken), []wire.Header{never}, false, false, 0},
		{errors.Join(busy, fmt.Errorf("at last: %w", broken)), []wire.Header{never}, false, false, 0},
		{errors.Join(busy, errors.Join(busy, broken)), []wire.Header{only}, false, false, 0},
		{errors.Join(busy, errors.Join(busy, nil)), []wire.Header{only}, true, true, 0},
		{fmt.Errorf("both: %w", errors.Join(busy, broken)), []wire.Header{only}, false, false, 0},
		{fmt.Errorf("%w: %w", ErrConfiguration, busy), []wire.Header{only}, true, true, 0},
		{fmt.Errorf("%w: %w", broken, busy), []wire.Header{never}, false, false, 0},
		{errors.Join(again(time.Second), again(time.Minute)), nil, true, false, time.Minute},
		{errors.Join(again(time.Second), context.Canceled), nil, true, false, time.Second},
		{errors.Join(context.Canceled), []wire.Header{only}, false, false, 0},
		{errors.Join(again(time.Second), busy), []wire.Header{never}, true, true, 0},
		{errors.Join(again(time.Second), broken), []wire.Header{never}, false, false, 0},
		{fmt.Errorf("why: %w", again(time.Second)), []wire.Header{never}, true, false, time.Second},
		{fmt.Errorf("%w: %w", broken, again(time.Second)), []wire.Header{never}, true, false, time.Second},
		{errors.Join(fmt.Errorf("%w: %w", broken, again(time.Second)), again(-time.Second)), nil, true, false, time.Second},
	} {
		headers := map[string]any{"retry": int64(1)}
		for _, h := range c.headers {
			headers[h.Name] = h.Value
		}
		job := &Job{headers: headersOf(t, headers)}
		pause, counted, again := job.retries(failed(c.err).(*failure))
		if pause != c.pause || counted != c.counted || again != c.again {
			t.Errorf("%d: %q %v: %v %v %v", i, c.err, c.headers, pause, counted, again)
		}
	}
}

func TestATimeoutBesideOtherErrors(t *testing.T) {
	timed, cancel := context.WithTimeoutCause(context.Background(), 0, &TimedOut{time.Second})
	defer cancel()
	cancelled, cancelIt := context.WithCancelCause(context.Background())
	cancelIt(ErrTaskCancelled)
	late := &TimedOut{time.Second}
	for i, c := range []struct {
		ctx   context.Context
		err   error
		kind  string
		names []string // of each leaf, one
	}{
		{timed, timed.Err(), "delayed.TimedOut", []string{"TimedOut"}},
		{timed, fmt.Errorf("x: %w", timed.Err()), "delayed.TimedOut", []string{"TimedOut"}},
		{timed, errors.Join(timed.Err(), context.Canceled), "delayed.TimedOut", []string{"TimedOut"}},
		{timed, errors.Join(timed.Err(), brokenError{}), "delayed.TimedOut", []string{"TimedOut", "brokenError"}},
		{timed, brokenError{}, "delayed.brokenError", []string{"brokenError"}},
		{timed, panics{}, "delayed.panics", []string{"panics"}},
		{cancelled, errors.Join(brokenError{}, context.Canceled), "", nil},
	} {
		err := judge(c.ctx, c.err)
		if c.kind == "" {
			if err != errCancelled { //nolint:errorlint // it is ours
				t.Error(i, err)
			}
			continue
		}
		f := failed(err).(*failure)
		if f.kind != c.kind || len(f.leaves) != len(c.names) {
			t.Errorf("%d: %+v", i, f)
			continue
		}
		for j, name := range c.names {
			if !slices.Contains(f.leaves[j].names, name) {
				t.Errorf("%d: %v", i, f.leaves)
			}
		}
	}
	if text := failed(judge(timed, errors.Join(timed.Err(), brokenError{}))).Error(); !strings.HasPrefix(text, late.Error()) || !strings.Contains(text, "broken") {
		t.Error(text)
	}
}

// Headers that hold what no producer of ours writes are as if they were not there, and end nothing.
func TestForeignHeaders(t *testing.T) {
	names := []string{"id", "enqueued", "retry", "backoff", "retry_on", "give_up_on", "attempt", "error", "timeout", "hard_timeout", "expires",
		"result_ttl", "unique", "group", "concurrency", "x"}
	odd := []any{nil, true, false, 0, 1, -1, 1.0, 0.5, math.NaN(), math.Inf(1), math.MaxInt64, math.MinInt64, uint64(math.MaxUint64), "", "x",
		[]byte("x"), time.Unix(1, 0), []any{}, map[string]any{}, map[any]any{1.5: nil}, wire.Raw("\xc7\x00\x05"), wire.Raw("\xd6\x7f1234"),
		deep(200), wire.Raw("\x81\x91\x01\x02"), "while_running", "0123456789abcdef", "exponential"}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func() any { return odd[random.IntN(len(odd))] }
	value := func() any {
		switch random.IntN(3) {
		case 0:
			return pick()
		case 1:
			return []any{"key", pick(), pick()}
		}
		list := make([]any, random.IntN(5))
		for i := range list {
			list[i] = pick()
		}
		return list
	}
	queue := newQueue(t)
	count := 0
	add := func(headers ...any) {
		for i := 1; i < len(headers); i += 2 {
			if headers[i-1] == "hard_timeout" && headers[i] == any(1) { // a millisecond, which a busy machine may need
				headers[i] = 60_000
			}
		}
		task, err := wire.Encode([]any{"m.F", wire.Raw("\xc4\x01\xc0"), wire.Raw(append(wire.MapHead(len(headers)/2), packed(t, headers)...))}, false)
		must(t, err)
		must(t, queue.store.Client.RPush(ctx, queue.Name(), task).Err())
		count++
	}
	for _, name := range names {
		for _, value := range odd {
			add(name, value)
			add("id", strings.Repeat("a", 16), name, value)
			add(name, []any{"k", value})
			add("id", rdb.Token(), name, []any{"k", "while_running", value})
		}
	}
	for range 3000 {
		var headers []any
		for range 1 + random.IntN(5) {
			headers = append(headers, names[random.IntN(len(names))], value())
		}
		add(headers...)
	}
	worker := newWorker(t, queue, map[string]any{"m.F": func() error { return failsNowAndThen(random) }}, Burst(), UnreadyFor(0))
	must(t, worker.Run(soon(t)))
	if left := queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() + queue.store.Client.LLen(ctx, queue.Name()).Val(); left != 0 || worker.finished.Load() < int64(count) {
		t.Error(left, worker.finished.Load(), count)
	}
	for _, key := range queue.store.Client.Keys(ctx, queue.Name()+"_*").Val() {
		if kept := strings.Contains(key, "_task_") || strings.Contains(key, "_unique_") || strings.Contains(key, "_slots_"); kept &&
			queue.store.Client.PTTL(ctx, key).Val() < 0 {
			t.Errorf("%s has no TTL", key)
		}
	}
}

func failsNowAndThen(random *rand.Rand) error {
	if random.IntN(2) == 0 {
		return errors.New("no")
	}
	return nil
}

func packed(t *testing.T, values []any) (all []byte) {
	t.Helper()
	for _, value := range values {
		data, err := wire.Encode(value, false)
		must(t, err)
		all = append(all, data...)
	}
	return all
}

func TestWhatAHeaderIs(t *testing.T) {
	for _, c := range []struct{ value, want any }{
		{wire.Raw("\x05"), int64(5)}, {wire.Raw("\xe0"), int64(-32)}, {wire.Raw("\xcc\xff"), int64(255)}, {wire.Raw("\xcd\xff\xff"), int64(65535)},
		{wire.Raw("\xce\xff\xff\xff\xff"), int64(1<<32 - 1)}, {uint64(math.MaxUint64), int64(math.MaxInt64)}, {wire.Raw("\xd0\x80"), int64(-128)},
		{wire.Raw("\xd1\x80\x00"), int64(-32768)}, {wire.Raw("\xd2\x80\x00\x00\x00"), int64(math.MinInt32)}, {int64(math.MinInt64), int64(math.MinInt64)},
		{1.5, 1.5}, {float32(1.5), 1.5}, {"x", "x"}, {true, true}, {[]any{"k", 1, false}, []any{"k", int64(1), false}}, {[]any{}, []any{}},
		{nil, nil}, {[]byte("x"), nil}, {map[string]any{}, nil}, {[]any{nil}, nil}, {[]any{[]any{}}, nil}, {time.Unix(1, 0), nil},
	} {
		if got := wire.Scalars(packed(t, []any{c.value}), 0); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v became %#v", c.value, got)
		}
	}
}

// Of two headers of one name a reader takes the last: if only the first were lowered, the task would be retried without end.
func TestAHeaderThatIsThereTwice(t *testing.T) {
	queue := newQueue(t)
	must(t, queue.store.Client.RPush(ctx, queue.Name(), "\x93\xa3m.F\xc4\x01\xc0\x83\xa5retry\x01\xa5retry\x01\xa7attempt\x00").Err())
	calls := 0
	worker := newWorker(t, queue, map[string]any{"m.F": func() error { calls++; return errors.New("no") }}, Burst())
	must(t, worker.Run(soon(t)))
	if calls != 2 || len(deadLetters(t, queue)) != 1 {
		t.Error(calls, deadLetters(t, queue))
	}
}

// What fails in the ending itself, by a fault of ours, makes a dead letter; what cannot even become one is counted as lost.
func TestTheLastResort(t *testing.T) {
	queue := newQueue(t)
	worker := newWorker(t, queue, nil)
	must(t, worker.open())
	held := func(number int) *lease.Lease {
		leases, _ := worker.pools[0].Get(1)
		l := leases[0]
		l.Data = packed(t, []any{[]any{"m.F", number}})
		must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Processing, l.Name, l.Data).Err())
		return l
	}
	if l := held(1); !worker.settle(l, nil, (*failure)(nil)) {
		t.Error("it was given back")
	}
	letters := deadLetters(t, queue)
	if len(letters) != 1 || letters[0].reason != string(Failed) || !strings.Contains(letters[0].detail, "nil pointer") {
		t.Fatalf("%q", letters)
	}
	l := held(2)
	own := l.Pool.Store
	l.Pool.Store = nil
	worker.settle(l, nil, (*failure)(nil))
	l.Pool.Store = own
	must(t, queue.store.Client.Set(ctx, l.Name, "x", time.Minute).Err())
	must(t, worker.giveBackAll())
	if n := queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val(); n != 1 || queue.store.Client.Exists(ctx, l.Name).Val() != 0 || len(worker.pools[0].Names()) > 1 {
		t.Error("it is not left to the sweepers", n, worker.pools[0].Names())
	}
}

// stubborn is a handler of a log that does its worst.
type stubborn struct{ how func() }

func (s stubborn) Enabled(context.Context, slog.Level) bool  { s.how(); return true }
func (s stubborn) Handle(context.Context, slog.Record) error { s.how(); return nil }
func (s stubborn) WithAttrs([]slog.Attr) slog.Handler        { return s }
func (s stubborn) WithGroup(string) slog.Handler             { return s }

func TestALogEndsNoWorker(t *testing.T) {
	released := make(chan struct{})
	defer close(released)
	for name, how := range map[string]func(){
		"panics": func() { panic(panics{}) }, "exits": runtime.Goexit, "blocks": func() { <-released },
	} {
		t.Run(name, func(t *testing.T) {
			queue := newQueue(t)
			enqueue(t, queue, NewGoTask("m.Fail"), NewGoTask("m.Missing"), NewGoTask("m.Fail").With(Retry(1)), NewPyTask("m:f", nil, nil))
			late := submit(t, queue, NewGoTask("m.Stuck").With(HardTimeout(hard), Track()))
			functions := stuck(t)
			functions["m.Fail"], functions["m.Stuck"] = func() error { return errors.New("no") }, functions["main.Stuck"]
			forced(t, queue, functions, Logger(slog.New(stubborn{how})), UnreadyFor(0))
			if letters := deadLetters(t, queue); len(letters) != 4 || stateOf(t, late) != StateFailed {
				t.Errorf("%q", letters)
			}
		})
	}
}

// collected is a log that keeps what it is told, as a handler that escapes nothing would print it.
type collected struct{ lines chan string }

func (c collected) Enabled(context.Context, slog.Level) bool { return true }
func (c collected) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	c.lines <- line
	return nil
}
func (c collected) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c collected) WithGroup(string) slog.Handler      { return c }

func TestTextFromRedisIsEscapedInTheLog(t *testing.T) {
	queue, log := newQueue(t), collected{make(chan string, 100)}
	const evil = "m.\x1b]0;owned\a\x1b[2J\nFORGED \u009b\u202e\xff é"
	for _, headers := range []map[string]any{nil, {"retry": 1}, {"!x" + evil: 1}, {"expires": 1}} {
		for _, path := range []string{evil, evil + ":f", "m.Fail"} {
			fields := []any{path, []byte{0xc0}}
			if headers != nil {
				fields = append(fields, headers)
			}
			must(t, queue.store.Client.RPush(ctx, queue.Name(), packed(t, []any{fields})).Err())
		}
	}
	must(t, queue.store.Client.RPush(ctx, queue.Name(), packed(t, []any{[]any{"m.Int", packed(t, []any{evil})}})).Err())
	functions := map[string]any{"m.Fail": func() error { return errors.New(evil) }, "m.Int": func(int) {}}
	for _, limit := range []time.Duration{0, time.Minute} {
		worker := newWorker(t, queue, functions, Burst(), Logger(slog.New(log)), UnreadyFor(limit))
		must(t, worker.Run(soon(t)))
		for _, letter := range deadLetters(t, queue) {
			must(t, queue.store.Client.RPush(ctx, queue.Name(), letter.task).Err())
		}
	}
	close(log.lines)
	seen := 0
	for line := range log.lines {
		for i, part := range strings.Split(line, "\n") {
			if strings.ContainsAny(part, "\x1b\a\r\t\u009b\u202e") || !utf8.ValidString(part) || i > 0 && part != "" && !strings.HasPrefix(part, "    ") {
				t.Errorf("%q", line)
			}
		}
		if strings.Contains(line, `\x1b]0;owned\a\x1b[2J`) {
			seen++
		}
	}
	if seen < 10 {
		t.Error(seen)
	}
	if text := shown("plain text é \uFFFD"); text != "plain text é \uFFFD" {
		t.Error(text)
	}
	if text := indented("a\n\tb\x1b\r\n\nc"); text != "a\n        b\\x1b\\r\n\n    c" {
		t.Errorf("%q", text)
	}
}

func TestLinesOfAStuckLogAreCounted(t *testing.T) {
	release := make(chan struct{})
	log := collected{make(chan string, 2*mostRecords)}
	first := true
	slow := slog.New(gated{log, func() {
		if first {
			first = false
			<-release
		}
	}})
	steady := steadily(slow)
	for range mostRecords + 10 {
		steady.Warn("x")
	}
	close(release)
	eventually(t, "what was dropped is told", func() bool {
		for len(log.lines) > 0 {
			if line := <-log.lines; strings.HasPrefix(line, "lines of the log were dropped") {
				return strings.HasSuffix(line, "lines=9") || strings.HasSuffix(line, "lines=10")
			}
		}
		return false
	})
	if steadily(steady) != steady || steadily(nil) == nil {
		t.Error("it is put in front of itself")
	}
}

type gated struct {
	collected
	gate func()
}

func (g gated) Handle(ctx context.Context, r slog.Record) error {
	g.gate()
	return g.collected.Handle(ctx, r)
}
