package delayed

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/cron"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// cronVectors are tests/vectors/cron.json: see "about" in the file.
type cronVectors struct {
	Walks []struct {
		TZ       string
		From, To int64
		Fires    map[string][]int64
	}
	Next, Decide, Definitions, Expiring, Headers [][]any
	Refused                                      struct{ Expressions, Zones []string }
}

func readCronVectors(t *testing.T) cronVectors {
	t.Helper()
	text, err := os.ReadFile("../../tests/vectors/cron.json")
	must(t, err)
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	var vectors cronVectors
	must(t, decoder.Decode(&vectors))
	if len(vectors.Walks) < 30 || len(vectors.Next) < 30 || len(vectors.Decide) < 90 || len(vectors.Expiring) < 60 || len(vectors.Headers) < 20 || len(vectors.Refused.Expressions) < 40 {
		t.Fatal("vectors are missing")
	}
	return vectors
}

func cronOf(t *testing.T, expression, tz string, catchUp CatchUp) *cron.Timetable {
	t.Helper()
	c, err := Cron{expression, tz, catchUp}.read()
	must(t, err)
	return c
}

// whole is a number of the vectors; null is never.
func whole(value any) int64 {
	if value == nil {
		return cron.Never
	}
	n, err := value.(json.Number).Int64()
	if err != nil {
		panic(err)
	}
	return n
}

func TestCronWalks(t *testing.T) {
	for _, walk := range readCronVectors(t).Walks {
		for expression, offsets := range walk.Fires {
			c := cronOf(t, expression, walk.TZ, "")
			for start := walk.From - 1; start < walk.To; start += 29 * 60 { // from anywhere, also inside of what is repeated
				got, want := c.After(start*1000), int64(0)
				for _, offset := range offsets {
					if at := walk.From + offset; at > start && want == 0 {
						want = at * 1000
					}
				}
				if want != 0 && got != want || want == 0 && got <= walk.To*1000 {
					t.Errorf("%s in %s after %d: %d, not %d", expression, walk.TZ, start, got, want)
				}
			}
			before := walk.From - 1
			for _, offset := range offsets {
				if got := c.After(before * 1000); got != (walk.From+offset)*1000 {
					t.Errorf("%s in %s after %d: %d", expression, walk.TZ, before, got)
				}
				before = walk.From + offset
			}
		}
	}
}

func TestCronNext(t *testing.T) {
	for _, vector := range readCronVectors(t).Next {
		c := cronOf(t, vector[0].(string), vector[1].(string), "")
		after := whole(vector[2])
		for _, each := range vector[3].([]any) {
			want := whole(each)
			if want != cron.Never {
				want *= 1000
			}
			got := c.After(after * 1000)
			if got != want {
				t.Errorf("%v after %d: %d, not %d", vector[:2], after, got, want)
			}
			after = whole(each)
		}
	}
}

func TestCronDecides(t *testing.T) {
	for _, vector := range readCronVectors(t).Decide {
		c := cronOf(t, vector[0].(string), vector[1].(string), CatchUp(vector[2].(string)))
		tasks, next := c.Decide(whole(vector[3]), whole(vector[4]))
		if int64(tasks) != whole(vector[5]) || next != whole(vector[6]) {
			t.Errorf("%v: %d, %d", vector, tasks, next)
		}
	}
}

func TestDefinitionsOfSchedules(t *testing.T) {
	queue := newQueue(t)
	for _, vector := range readCronVectors(t).Definitions {
		timetable := cronOf(t, vector[0].(string), vector[1].(string), CatchUp(vector[2].(string)))
		path, args, want := vector[3].(string), vector[4].([]any), vector[5].(string)
		var task Task = NewGoTask(path, []any{"a", 2.5})
		if strings.Contains(path, wire.Separator) {
			task = NewPyTask(path, []any{1, args[1]}, nil)
		}
		if vector[6] != nil {
			task = lastingFor(task, time.Duration(whole(vector[6]))*time.Millisecond)
		}
		schedule, err := queue.define(task, timetable)
		must(t, err)
		definition, err := schedule.pack()
		must(t, err)
		if got := hex.EncodeToString(definition); got != want {
			t.Errorf("%s, not %s", got, want)
		}
		again, err := unpackSchedule(definition)
		must(t, err)
		if cronIn(again.Timetable) != cronIn(timetable) || !bytes.Equal(again.task, schedule.task) || again.expires != schedule.expires {
			t.Errorf("%+v", again)
		}
	}
}

func lastingFor(task Task, d time.Duration) Task {
	if py, ok := task.(*PyTask); ok {
		return NewPyTask(py.path, py.args, py.kwargs, Expires(d))
	}
	return task.(*GoTask).With(Expires(d))
}

func TestWhatIsDoneAboutOccurrencesThatExpire(t *testing.T) {
	for _, vector := range readCronVectors(t).Expiring {
		e := entry{cronOf(t, vector[0].(string), vector[1].(string), CatchUp(vector[2].(string))), nil, whole(vector[5])}
		if moment, next := e.DecideExpiring(whole(vector[3]), whole(vector[4]), e.expires); moment != whole(vector[6]) || next != whole(vector[7]) {
			t.Errorf("%v: %d, %d", vector, moment, next)
		}
	}
}

func TestAnyTaskCanSayWhenItExpires(t *testing.T) {
	for _, vector := range readCronVectors(t).Headers {
		data, err := hex.DecodeString(vector[0].(string))
		must(t, err)
		after, err := wire.WithExpiry(data, whole(vector[1]))
		if hex.EncodeToString(after) != vector[2] || err != nil {
			t.Errorf("%x, not %v (%v)", after, vector[2], err)
		}
	}
}

func TestCronRefuses(t *testing.T) {
	refused := readCronVectors(t).Refused
	for _, expression := range refused.Expressions {
		if _, err := (Cron{Expression: expression}).read(); !errors.Is(err, ErrInvalidSchedule) {
			t.Errorf("%q: %v", expression, err)
		}
	}
	for _, tz := range refused.Zones {
		if _, err := (Cron{Expression: "* * * * *", TZ: tz}).read(); tz != "" && !errors.Is(err, ErrInvalidSchedule) {
			t.Errorf("%q: %v", tz, err)
		}
	}
	for words, c := range map[string]Cron{
		"has 4 fields": {Expression: "* * * *"}, "never fires": {Expression: "0 0 30 2 *"}, "day of the week": {Expression: "* * * * X"},
		"missed occurrences": {Expression: "* * * * *", CatchUp: "some"}, "tzdata": {Expression: "* * * * *", TZ: "Moon/Crater"},
	} {
		if _, err := c.read(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q is not in %v", words, err)
		}
	}
}
