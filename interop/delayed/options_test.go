package delayed

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
)

// options are those that the vector says, which is in Python's words.
func (v taskVector) options() []TaskOption {
	options := []TaskOption{Retry(v.Means.Retry)}
	given := v.Means.Options
	seconds := func(name string) time.Duration {
		n, _ := given[name].(float64)
		return duration(n)
	}
	texts := func(name string) []string {
		var found []string
		for _, text := range given[name].([]any) {
			found = append(found, text.(string))
		}
		return found
	}
	for name, value := range given {
		switch name {
		case "track":
			options = append(options, Track())
		case "backoff":
			list := value.([]any)
			make := map[string]func(time.Duration) Pauses{"constant": Constant, "linear": Linear, "exponential": Exponential}
			pauses := make[list[0].(string)](duration(list[1].(float64))).Capped(duration(list[2].(float64)))
			if list[3] == false {
				pauses = pauses.Exact()
			}
			options = append(options, Backoff(pauses))
		case "group":
			options = append(options, Group(value.(string)))
		case "after":
			options = append(options, After(seconds(name)))
		case "retry_on":
			options = append(options, RetryOn(texts(name)...))
		case "give_up_on":
			options = append(options, GiveUpOn(texts(name)...))
		case "timeout":
			options = append(options, Timeout(seconds(name)))
		case "hard_timeout":
			options = append(options, HardTimeout(seconds(name)))
		case "result_ttl":
			options = append(options, ResultTTL(seconds(name)))
		case "expires":
			options = append(options, Expires(seconds(name)))
		case "unique":
			options = append(options, Unique(value.(string), UniqueMode(given["unique_mode"].(string)), seconds("unique_for")))
		case "join":
			options = append(options, Join())
		case "concurrency_key":
			options = append(options, ConcurrencyKey(value.(string), int(given["concurrency"].(float64))))
		case "unique_mode", "unique_for", "concurrency":
		default:
			panic(name)
		}
	}
	return options
}

func duration(seconds float64) time.Duration {
	return time.Duration(math.Round(seconds * float64(time.Second)))
}

// serializeAsOf writes a task that has the id and the time that the headers have.
func serializeAsOf(task Task, headers map[string]any) ([]byte, error) {
	if asksOf(task).tracked() {
		return task.(asking).serialize(birth{id: headers["id"].(string), at: time.UnixMilli(headers["enqueued"].(int64))})
	}
	return task.Serialize()
}

// headersOf are headers as a task has them.
func headersOf(t *testing.T, values map[string]any) wire.Headers {
	t.Helper()
	var pairs []any
	for name, value := range values {
		pairs = append(pairs, name, value)
	}
	headers, _ := wire.HeadersAt(append(append([]byte{0xc0}, wire.MapHead(len(values))...), packed(t, pairs)...), 1)
	return headers
}

// equalValues compares what may be numbers of different types.
func equalValues(a, b map[string]any) bool { return fmt.Sprint(integers(a)) == fmt.Sprint(b) }

func TestOptionsThatCannotWork(t *testing.T) {
	now := time.Now()
	for name, options := range map[string][]TaskOption{
		"no pause":           {Backoff(Pauses{})},
		"above the cap":      {Backoff(Constant(2 * time.Second).Capped(time.Second))},
		"two times":          {At(now), After(time.Second)},
		"in the past":        {After(-time.Second)},
		"two ends":           {Expires(time.Second), ExpiresAt(now)},
		"hard before soft":   {Timeout(time.Second), HardTimeout(time.Second)},
		"no timeout":         {Timeout(0)},
		"no time for it":     {ResultTTL(-1)},
		"no such mode":       {Unique("k", "for_ever", time.Hour)},
		"no bound at all":    {Unique("k", UntilDone, 0)},
		"no bound":           {Unique("k", UntilDone, -1)},
		"join without a key": {Join()},
		"none may run":       {ConcurrencyKey("k", 0)},
	} {
		for _, task := range []Task{NewPyTask("m:f", nil, nil, options...), NewGoTask("main.F").With(options...)} {
			if _, err := task.Serialize(); !errors.Is(err, ErrInvalidTask) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestATaskWithoutOptionsHasNone(t *testing.T) {
	if asksOf(NewGoTask("main.F")) != nil || asksOf(NewGoTask("main.F").With()) != nil || asksOf(NewPyTask("m:f", nil, nil)) != nil {
		t.Error("it has some")
	}
}

func TestPauses(t *testing.T) {
	second := time.Second
	for name, c := range map[string]struct {
		pauses Pauses
		want   []time.Duration
	}{
		"constant":    {Constant(2 * second), []time.Duration{2 * second, 2 * second, 2 * second}},
		"linear":      {Linear(2 * second), []time.Duration{2 * second, 4 * second, 6 * second}},
		"exponential": {Exponential(2 * second).Capped(7 * second), []time.Duration{2 * second, 4 * second, 7 * second}},
	} {
		var got []time.Duration
		for attempt := 1; attempt <= 3; attempt++ {
			got = append(got, c.pauses.Exact().after(attempt))
			if jittered := c.pauses.after(attempt); jittered < 0 || jittered > got[attempt-1] {
				t.Errorf("%s: %s", name, jittered)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
		if last := c.pauses.after(math.MaxInt); last < 0 || last > c.pauses.cap {
			t.Errorf("%s, after a long time: %s", name, last)
		}
		header := c.pauses.header()
		if back := pausesFrom([]any{header[0], int64(2), header[2], header[3]}); back != c.pauses {
			t.Errorf("%s: read %v", name, back)
		}
	}
	for _, odd := range []any{nil, 1, []any{}, []any{"square", 1.0, 2.0, true}, []any{"linear", math.NaN(), 2.0, true}, []any{"linear", 3.0, 2.0, true}} {
		if pausesFrom(odd) != (Pauses{}) {
			t.Errorf("%v", odd)
		}
	}
}

func TestHeadersAreChangedInPlace(t *testing.T) {
	// ["m.F", nil, {"attempt": 1, nil: [2], "x": -1}, 5]
	data := []byte("\x94\xa3m.F\xc0\x83\xa7attempt\xd1\x00\x01\xc0\x91\x02\xa1x\xff\x05")
	got, err := wire.WithHeaders(data, wire.Header{Name: "attempt", Value: 2}, wire.Header{Name: "error", Value: "no"})
	must(t, err)
	if want := "\x94\xa3m.F\xc0\x84\xa7attempt\x02\xc0\x91\x02\xa1x\xff\xa5error\xa2no\x05"; string(got) != want {
		t.Errorf("%q", got)
	}
	var many []wire.Header
	for i := range 20 {
		many = append(many, wire.Header{Name: fmt.Sprint(i), Value: i})
	}
	got, err = wire.WithHeaders(got, many...)
	must(t, err)
	task, err := decode(got)
	headers := task.headers.All()
	if err != nil || len(headers) != 23 || headers["19"] != int64(19) || headers["attempt"] != int64(2) {
		t.Errorf("%v %v", headers, err)
	}
}
