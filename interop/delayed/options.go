package delayed

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const usualHeaders = 64 // bytes

// UniqueMode says for how long a task counts as there: see Unique.
type UniqueMode string

// The modes.
const (
	WhileQueued  UniqueMode = wire.WhileQueued  // until it begins
	WhileRunning UniqueMode = wire.WhileRunning // from its beginning to its end
	UntilDone    UniqueMode = wire.UntilDone    // from its enqueue to its end
)

// taskOptions are what a task asks for beyond a call. A task that asks for nothing has none, and no headers: it is byte for byte
// upstream's.
type taskOptions struct {
	retry                           int
	backoff                         *Pauses
	retryOn, giveUpOn               []string
	timeout, hardTimeout, resultTTL *time.Duration
	track                           bool
	at                              *time.Time
	after                           *time.Duration
	expiresIn                       *time.Duration
	expiresAt                       *time.Time
	unique                          *string
	mode                            UniqueMode
	bound                           time.Duration
	join                            bool
	group                           *string
	shared                          *string // its concurrency key
	limit                           int     // of the tasks with that key
	rateKey                         *string
	rate                            float64 // of the tasks with that key, in a second
	metadata                        map[string]string
	identified                      bool    // it has an id, tracked or not: a task of an App
	queue                           *string // of an App …
	priority                        string  // … and before or behind which others
	home                            string  // of a node of a workflow: the queue that has that, …
	set                             int64   // … and to which of its sets of nodes it belongs
}

// birth is what a task gets when it is enqueued: so a task that is enqueued twice is two.
type birth struct {
	id    string    // of a task that has one
	at    time.Time // by Redis's clock
	trace Trace     // in which it is enqueued
}

// newBirth is one of now, by this machine's clock.
func newBirth() birth { return birth{id: rdb.Token(), at: time.Now()} }

// TaskOption changes what a task asks for: see NewPyTask and GoTask.With.
type TaskOption func(*taskOptions)

// Retry says how often a failed call is repeated; negative: until it succeeds.
func Retry(times int) TaskOption { return func(o *taskOptions) { o.retry = times } }

// Backoff says how long a failed attempt is followed by a pause. Without it the next attempt comes at once.
func Backoff(pauses Pauses) TaskOption { return func(o *taskOptions) { o.backoff = &pauses } }

// RetryOn names the failures that are retried, and no others are: exception types as `module.Name` or `Name`; in a Go worker types
// of errors, as `package/path.Name`, `package.Name` or `Name`.
func RetryOn(kinds ...string) TaskOption { return func(o *taskOptions) { o.retryOn = kinds } }

// GiveUpOn names failures that are never retried, as RetryOn does.
func GiveUpOn(kinds ...string) TaskOption { return func(o *taskOptions) { o.giveUpOn = kinds } }

// Timeout says after how long a task is told to end: a Python task by an exception, a Go task by its context.
func Timeout(d time.Duration) TaskOption { return func(o *taskOptions) { o.timeout = &d } }

// HardTimeout says after how long a task is ended with its process, whatever it does. A Go worker runs many tasks in one process: the
// others go back to the queue, and Run says what the process does.
func HardTimeout(d time.Duration) TaskOption { return func(o *taskOptions) { o.hardTimeout = &d } }

// ResultTTL says how long the result is kept, and the state with it.
func ResultTTL(d time.Duration) TaskOption { return func(o *taskOptions) { o.resultTTL = &d } }

// Track keeps the state of the task, without a result.
func Track() TaskOption { return func(o *taskOptions) { o.track = true } }

// At says when the task shall begin, at the earliest.
func At(t time.Time) TaskOption { return func(o *taskOptions) { o.at = &t } }

// After says in how long the task shall begin, at the earliest.
func After(d time.Duration) TaskOption { return func(o *taskOptions) { o.after = &d } }

// Expires says in how long from its enqueue it is too late for the task to begin.
func Expires(d time.Duration) TaskOption { return func(o *taskOptions) { o.expiresIn = &d } }

// ExpiresAt says when it is too late for the task to begin.
func ExpiresAt(t time.Time) TaskOption { return func(o *taskOptions) { o.expiresAt = &t } }

// Unique gives the task a key. While another task with this key is there, a second one is refused (*Duplicate). The key is free
// after bound in any case, which is above 0.
func Unique(key string, mode UniqueMode, bound time.Duration) TaskOption {
	return func(o *taskOptions) { o.unique, o.mode, o.bound = &key, mode, bound }
}

// Join makes that a second task with the same unique key is not refused: Submit returns the handle of the first.
func Join() TaskOption { return func(o *taskOptions) { o.join = true } }

// Group says whose task it is. Groups take turns, so that one with many tasks does not delay the others.
func Group(name string) TaskOption { return func(o *taskOptions) { o.group = &name } }

// ConcurrencyKey gives the task a key of which no more than limit tasks run at once, on all workers together. The others wait for a
// second and try again.
func ConcurrencyKey(key string, limit int) TaskOption {
	return func(o *taskOptions) { o.shared, o.limit = &key, limit }
}

// RateKey gives the task a key of which no more than perSecond tasks begin in a second, one after the other in the order of their
// enqueues: each waits in the schedule for an instant of its own, which stays reserved if it is cancelled. Retries have none.
func RateKey(key string, perSecond float64) TaskOption {
	return func(o *taskOptions) { o.rateKey, o.rate = &key, perSecond }
}

// Metadata says something about the task, as texts by name, such as a request id: Job.Metadata has it.
func Metadata(texts map[string]string) TaskOption {
	return func(o *taskOptions) { o.metadata = maps.Clone(texts) }
}

// with is o, or new options if there are none, after some changes.
func (o *taskOptions) with(changes []TaskOption) *taskOptions {
	if len(changes) == 0 {
		return o
	}
	if o == nil {
		o = &taskOptions{}
	}
	for _, change := range changes {
		change(o)
	}
	return o
}

// tracked reports whether the task has an id, and Redis keeps its state.
func (o *taskOptions) tracked() bool {
	return o != nil && (o.track || o.resultTTL != nil || o.unique != nil)
}

// identity is the id that a task of this birth has; empty if it has none.
func (o *taskOptions) identity(b birth) string {
	if o.tracked() || o != nil && o.identified {
		return b.id
	}
	return ""
}

// submits reports whether the task asks for more than a place at the tail.
func (o *taskOptions) submits() bool { return o.alone() || o != nil && (o.group != nil || o.tracked()) }

// alone reports whether it goes in by itself, also among many.
func (o *taskOptions) alone() bool {
	return o != nil && (o.unique != nil || o.at != nil || o.rateKey != nil || o.after != nil && *o.after > 0)
}

// check says what cannot work, alone or together.
func (o *taskOptions) check() error {
	wrong := ""
	for _, bound := range []struct {
		name string
		d    *time.Duration
	}{{"Timeout", o.timeout}, {"HardTimeout", o.hardTimeout}, {"ResultTTL", o.resultTTL}, {"Expires", o.expiresIn}} {
		if bound.d != nil && *bound.d < time.Millisecond {
			wrong = fmt.Sprintf("%s is at least a millisecond, not %s", bound.name, *bound.d)
		}
	}
	switch {
	case o.backoff != nil && !o.backoff.valid():
		wrong = "a back-off begins above 0 and not above its cap"
	case o.at != nil && o.after != nil:
		wrong = "a task begins at a time or after some time: give either At or After"
	case o.after != nil && *o.after < 0:
		wrong = fmt.Sprintf("After is not below 0: %s", *o.after)
	case o.expiresIn != nil && o.expiresAt != nil:
		wrong = "give either Expires or ExpiresAt"
	case o.timeout != nil && o.hardTimeout != nil && *o.timeout >= *o.hardTimeout:
		wrong = "HardTimeout is above Timeout: it is for tasks that do not end when they are told to"
	case o.unique != nil && (o.mode != WhileQueued && o.mode != WhileRunning && o.mode != UntilDone):
		wrong = fmt.Sprintf("a unique key has one of the modes %s, %s, %s, not %q", WhileQueued, WhileRunning, UntilDone, o.mode)
	case o.unique != nil && o.bound < time.Millisecond:
		wrong = fmt.Sprintf("a unique key needs a bound above 0, not %s, or it might never be free", o.bound)
	case o.join && o.unique == nil:
		wrong = "Join is for unique tasks: give a key with Unique"
	case o.queue != nil || o.priority != "":
		wrong = "OnQueue and Priority are for tasks of an App: submit this one by App.Submit"
	case o.rateKey != nil && (*o.rateKey == "" || !(o.rate >= 1e-4 && o.rate <= 1e6)):
		wrong = fmt.Sprintf("a RateKey is a text that is not empty, and a number of tasks a second from 0.0001 to 1000000, not %g", o.rate)
	case o.shared != nil && o.limit < 1:
		wrong = fmt.Sprintf("of the tasks with a ConcurrencyKey at least one may run, not %d", o.limit)
	}
	if wrong != "" {
		return fmt.Errorf("%w: %s", ErrInvalidTask, wrong)
	}
	return nil
}

// writer packs headers, one after the other.
type writer struct {
	packed []byte
	count  int
}

// name begins another header.
func (w *writer) name(name string) {
	w.count++
	w.packed = wire.AppendString(w.packed, name)
}

func (w *writer) text(name, text string) {
	w.name(name)
	w.packed = wire.AppendString(w.packed, text)
}

func (w *writer) number(name string, n int64) {
	w.name(name)
	w.packed = wire.AppendInt(w.packed, n)
}

// span is a number of milliseconds, if it is given.
func (w *writer) span(name string, d *time.Duration) {
	if d != nil {
		w.number(name, rdb.Rounded(*d))
	}
}

// texts is an array, if there are any.
func (w *writer) texts(name string, texts []string) {
	if len(texts) == 0 {
		return
	}
	w.name(name)
	w.packed = wire.AppendArray(w.packed, len(texts))
	for _, text := range texts {
		w.packed = wire.AppendString(w.packed, text)
	}
}

// byName is a map of texts by name, which always has the same bytes, if there are any.
func (w *writer) byName(name string, texts map[string]string) {
	if len(texts) == 0 {
		return
	}
	w.name(name)
	w.packed = wire.AppendMap(w.packed, len(texts))
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		w.packed = wire.AppendString(wire.AppendString(w.packed, key), texts[key])
	}
}

// pauses are how a task waits between attempts.
func (w *writer) pauses(p *Pauses) {
	if p == nil {
		return
	}
	w.name("backoff")
	w.packed = wire.AppendString(wire.AppendArray(w.packed, 4), p.kind)
	w.packed = wire.AppendFloat(wire.AppendFloat(w.packed, p.base.Seconds()), p.cap.Seconds())
	w.packed = wire.AppendBool(w.packed, !p.exact)
}

// headers writes what stands in the task, in this order: only what it needs.
func (o *taskOptions) headers(w *writer, retry int, b birth) {
	switch {
	case o.tracked():
		w.text("id", b.id)
		w.number("enqueued", rdb.Epoch(b.at))
	case o.identified:
		w.text("uid", b.id)
	}
	if retry != 0 {
		w.number("retry", int64(retry))
	}
	w.trace(b.trace)
	w.pauses(o.backoff)
	w.texts("retry_on", o.retryOn)
	w.texts("give_up_on", o.giveUpOn)
	w.span("timeout", o.timeout)
	w.span("hard_timeout", o.hardTimeout)
	w.span("result_ttl", o.resultTTL)
	if o.expiresIn != nil {
		w.number("expires", rdb.Epoch(b.at.Add(*o.expiresIn)))
	} else if o.expiresAt != nil {
		w.number("expires", rdb.Epoch(*o.expiresAt))
	}
	if o.unique != nil {
		w.name("unique")
		w.packed = wire.AppendString(wire.AppendString(wire.AppendArray(w.packed, 3), *o.unique), string(o.mode))
		w.packed = wire.AppendInt(w.packed, rdb.Rounded(o.bound))
	}
	if o.group != nil {
		w.text("group", *o.group)
	}
	if o.shared != nil {
		w.name("concurrency")
		w.packed = wire.AppendInt(wire.AppendString(wire.AppendArray(w.packed, 2), *o.shared), int64(o.limit))
	}
	w.byName("metadata", o.metadata)
	if o.home != "" {
		w.name("flow")
		w.packed = wire.AppendInt(wire.AppendString(wire.AppendArray(w.packed, 2), o.home), o.set)
	}
}

// packed is the map of headers as it stands in a task; nil if there are none.
func (o *taskOptions) packed(retry int, b birth) (wire.Raw, error) {
	switch {
	case o == nil && b.trace == Trace{}:
		return nil, nil
	case o == nil:
		o = &taskOptions{}
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	w := writer{packed: make([]byte, 1, usualHeaders)} // the beginning of the map mostly has one byte
	o.headers(&w, retry, b)
	if w.count == 0 {
		return nil, nil
	}
	if head := wire.MapHead(w.count); len(head) > 1 {
		return slices.Concat(head, w.packed[1:]), nil
	}
	w.packed[0] = wire.MapHead(w.count)[0]
	return w.packed, nil
}
