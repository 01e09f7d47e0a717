package delayed

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const (
	historyBatch = 64                     // events of one entry, about
	historyDelay = 200 * time.Millisecond // after which what is pending is written
	historyMost  = 4096                   // events that are pending, while Redis does not answer
	historyDays  = 30                     // that are kept, if nothing else is said
	historyText  = 200                    // bytes of what is said of a task
)

// historyKept is what the history of a queue keeps: see docs/protocol.md, section 7h.
type historyKept struct {
	off   bool
	share float64 // of the successes
	days  float64
}

// keptOf is what the fields of the control hash say.
func keptOf(control map[string]string) historyKept {
	k := historyKept{off: control["history"] == "off", days: historyDays}
	switch record := control["history"]; record {
	case "all":
		k.share = 1
	default:
		if share, err := strconv.ParseFloat(record, 64); err == nil && share > 0 && share <= 1 {
			k.share = share
		}
	}
	if days, err := strconv.ParseFloat(control["history_days"], 64); err == nil && days > 0 && days < 1e6 {
		k.days = days
	}
	return k
}

// recorder notes what the tasks of one queue came to, and writes it to the history, many in one entry.
type recorder struct {
	store *rdb.Store
	place string
	keeps atomic.Pointer[historyKept]

	mu      sync.Mutex
	plain   map[string][]int64 // of successes without an id: function → microseconds
	events  []byte             // the others, packed
	count   int                // of those
	pending int                // all
	timer   *time.Timer        // runs while something is pending
	writing sync.Mutex
}

func newRecorder(store *rdb.Store, place string) *recorder {
	r := &recorder{store: store, place: place}
	r.keeps.Store(&historyKept{days: historyDays})
	return r
}

// historyEvent is one thing that has happened to a task.
type historyEvent struct {
	outcome, path, id, said string
	attempt                 int
	waited, ran             time.Duration // negative if they are not known
}

// succeeded notes a success, if the history keeps it.
func (r *recorder) succeeded(path string, job *Job, began time.Time) {
	k := r.keeps.Load()
	if k.share == 0 || k.share < 1 && rand.Float64() >= k.share { //nolint:gosec // it is a sample
		return
	}
	if job == nil {
		r.add(func() {
			if r.plain == nil {
				r.plain = map[string][]int64{}
			}
			r.plain[path] = append(r.plain[path], time.Since(began).Microseconds())
		})
		return
	}
	r.note(historyEvent{outcome: "succeeded", path: path, ran: time.Since(began)}, job, began)
}

// note notes anything else; job is nil if the task has no headers, and began is zero if it did not begin.
func (r *recorder) note(event historyEvent, job *Job, began time.Time) {
	if r == nil || r.keeps.Load().off {
		return
	}
	event.attempt, event.waited = -1, -1
	if job != nil {
		event.id, event.attempt = job.ID, job.Attempt
		if !job.Enqueued.IsZero() && !began.IsZero() {
			event.waited = max(0, began.Sub(job.Enqueued))
		}
	}
	r.add(func() {
		r.events = event.append(r.events)
		r.count++
	})
}

func (e *historyEvent) append(b []byte) []byte {
	b = wire.AppendInt(wire.AppendArray(b, 8), time.Now().UnixMilli())
	for _, text := range []string{e.outcome, e.path, e.id} {
		b = wire.AppendString(b, text)
	}
	waited, ran := int64(-1), int64(-1)
	if e.waited >= 0 {
		waited = e.waited.Milliseconds()
	}
	if e.ran >= 0 {
		ran = e.ran.Microseconds()
	}
	b = wire.AppendInt(wire.AppendInt(wire.AppendInt(b, int64(e.attempt)), waited), ran)
	first, _, _ := strings.Cut(strings.TrimSpace(e.said), "\n")
	return wire.AppendString(b, strings.ToValidUTF8(first[:min(len(first), historyText)], "?"))
}

// add adds something, and writes if there is enough, or a little later.
func (r *recorder) add(something func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending >= historyMost {
		return
	}
	something()
	r.pending++
	switch {
	case r.pending == 1 && r.timer == nil:
		r.timer = time.AfterFunc(historyDelay, r.write)
	case r.pending == 1:
		r.timer.Reset(historyDelay)
	case r.pending == historyBatch:
		r.timer.Reset(0)
	}
}

// write writes what is pending. What Redis does not take is lost: the history is not what tasks depend on.
func (r *recorder) write() {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	plain, events, count, pending := r.plain, r.events, r.count, r.pending
	r.plain, r.events, r.count, r.pending = nil, nil, 0, 0
	r.mu.Unlock()
	if pending == 0 {
		return
	}
	k := r.keeps.Load()
	parts := 3
	if k.share > 0 && k.share < 1 {
		parts++
	}
	batch := wire.AppendMap(wire.AppendString(wire.AppendArray(nil, parts), r.place), len(plain))
	for path, times := range plain {
		batch = wire.AppendArray(wire.AppendString(batch, path), len(times))
		for _, each := range times {
			batch = wire.AppendInt(batch, each)
		}
	}
	batch = append(wire.AppendArray(batch, count), events...)
	if parts > 3 {
		batch = wire.AppendFloat(batch, k.share)
	}
	oldest := max(0, time.Now().UnixMilli()-int64(k.days*86_400_000))
	ctx, cancel := context.WithTimeout(context.Background(), conn.Deadline)
	defer cancel()
	r.store.Caller.Call(ctx, "XADD", r.store.Keys.History, "MINID", "~", rdb.Decimal(oldest), "*", "batch", string(batch)) //nolint:errcheck // see above
}

// record notes what a task has come to; err is why it was not run, or how it failed.
func (w *Worker) record(pool *lease.Pool, path string, job *Job, began time.Time, err error) {
	r := w.recorder(pool)
	if r == nil {
		return
	}
	if err == nil {
		r.succeeded(path, job, began)
		return
	}
	event := historyEvent{path: path, ran: -1, said: err.Error()}
	switch err := err.(type) { //nolint:errorlint // what a task returns is a failure, whatever it wraps
	case *unreadyError: // see putOff
		return
	case *Unrunnable:
		event.outcome = "buried"
		if err.Reason == Expired {
			event.outcome = string(Expired)
		}
		began = time.Time{}
	case *failure:
		event.outcome, event.ran, event.said = "failed", time.Since(began), err.kind+": "+err.text
		if job != nil {
			if _, _, again := job.retries(err); again {
				event.outcome = "retried"
			}
		}
	default:
		if err != errCancelled { //nolint:errorlint // it is ours; the others end nothing
			return
		}
		event.outcome, event.said = string(StateCancelled), ""
	}
	r.note(event, job, began)
}

// recorder is that of a queue; nil if the worker has not been assembled.
func (w *Worker) recorder(pool *lease.Pool) *recorder {
	if pool.Index >= len(w.recorders) {
		return nil
	}
	return w.recorders[pool.Index]
}
