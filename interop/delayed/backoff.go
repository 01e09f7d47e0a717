package delayed

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	defaultCap    = time.Hour
	mostDoublings = 60 // beyond that, every cap has long been reached
)

// Pauses say how long a failed task waits before its next attempt: see Backoff. They are jittered in full: a pause is drawn evenly
// from 0 to the computed one, so that tasks which failed together do not come back together.
type Pauses struct {
	kind      string
	base, cap time.Duration
	exact     bool
}

// Constant is a pause of base each time.
func Constant(base time.Duration) Pauses { return Pauses{"constant", base, defaultCap, false} }

// Linear is base, twice base, three times base …
func Linear(base time.Duration) Pauses { return Pauses{"linear", base, defaultCap, false} }

// Exponential is base, twice, four times, eight times base …
func Exponential(base time.Duration) Pauses { return Pauses{"exponential", base, defaultCap, false} }

// Capped is the same with another bound than an hour.
func (p Pauses) Capped(most time.Duration) Pauses {
	p.cap = most
	return p
}

// Exact is the same without jitter.
func (p Pauses) Exact() Pauses {
	p.exact = true
	return p
}

func (p Pauses) valid() bool { return p.kind != "" && p.base > 0 && p.base <= p.cap }

// header is how it stands in a task.
func (p Pauses) header() []any { return []any{p.kind, p.base.Seconds(), p.cap.Seconds(), !p.exact} }

// after is how long to wait after attempt number n, counted from 1, has failed.
func (p Pauses) after(n int) time.Duration {
	factor := 1.0
	switch p.kind {
	case "linear":
		factor = float64(n)
	case "exponential":
		factor = math.Exp2(float64(min(n-1, mostDoublings)))
	}
	longest := time.Duration(min(p.base.Seconds()*factor, p.cap.Seconds()) * float64(time.Second))
	if p.exact || longest <= 0 {
		return longest
	}
	return rand.N(longest + 1)
}

// pausesFrom is what a task carries, or no pauses at all if they are none that we know.
func pausesFrom(header any) Pauses {
	list, _ := header.([]any)
	if len(list) != 4 {
		return Pauses{}
	}
	kind, _ := list[0].(string)
	jitter, _ := list[3].(bool)
	p := Pauses{kind, secondsFrom(list[1]), secondsFrom(list[2]), !jitter}
	if kind != "constant" && kind != "linear" && kind != "exponential" || !p.valid() {
		return Pauses{}
	}
	return p
}

// secondsFrom is a duration that a task has in seconds.
func secondsFrom(value any) time.Duration {
	seconds := 0.0
	switch value := value.(type) {
	case int64:
		seconds = float64(value)
	case float64:
		seconds = value
	case float32:
		seconds = float64(value)
	}
	if math.IsNaN(seconds) || math.Abs(seconds) > math.MaxInt64/2/float64(time.Second) {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
