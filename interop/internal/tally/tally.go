// Package tally counts in memory how a worker's tasks end. Its heartbeat adds that to the statistics in Redis: docs/protocol.md, section
// 7f, has the fields.
package tally

import (
	"sort"
	"sync"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
)

// Outcome is how an attempt ended: the field in which it is counted.
type Outcome int

// The outcomes.
const (
	Succeeded Outcome = iota + 1
	Retried
	Failed
	Buried
	Cancelled
	Expired
	Superseded
)

const (
	run    = int(Superseded) + 1 // the field with the milliseconds that attempts ran; the buckets follow
	wait   = run + 14            // likewise, that they waited
	fields = wait + 14
	// Functions that are told apart between two beats, and bytes of a path. What others did is in the sum.
	mostFunctions = 250
	longestPath   = 200
)

// bounds are those of the buckets; what is above the last one has a bucket of its own.
var bounds = [...]time.Duration{
	5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2500 * time.Millisecond, 10 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour,
}

type record struct {
	counts     [fields]int64
	ran, waits time.Duration
}

// Counter is what is counted of one queue. It may be used from any goroutine.
type Counter struct {
	mu        sync.Mutex
	sum       record
	functions map[string]*record
	before    record // what has been taken
}

// Ended counts an attempt; ran is 0 of one that did not begin.
func (c *Counter) Ended(path string, outcome Outcome, ran time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.add(outcome, ran)
	if of := c.functions[path]; of != nil {
		of.add(outcome, ran)
		return
	}
	if len(c.functions) >= mostFunctions || len(path) > longestPath {
		return
	}
	if c.functions == nil {
		c.functions = map[string]*record{}
	}
	of := &record{}
	of.add(outcome, ran)
	c.functions[path] = of
}

// Waited counts how long a task waited for its first attempt.
func (c *Counter) Waited(waited time.Duration) {
	waited = max(waited, 0) // the clocks are not the same
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.waits += waited
	c.sum.counts[wait+1+bucket(waited)]++
}

func (r *record) add(outcome Outcome, ran time.Duration) {
	r.counts[outcome]++
	if ran > 0 {
		r.ran += ran
		r.counts[run+1+bucket(ran)]++
	}
}

func bucket(duration time.Duration) int {
	return sort.Search(len(bounds), func(i int) bool { return duration <= bounds[i] })
}

// Counts is what has been counted since it was taken last.
type Counts struct {
	sum       record
	functions map[string]*record
}

// Take takes what has been counted; false if nothing has.
func (c *Counter) Take() (taken Counts, some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken = Counts{c.sum, c.functions}
	for _, count := range c.sum.counts {
		some = some || count > 0
	}
	c.before.join(&c.sum)
	c.sum, c.functions = record{}, nil
	return taken, some
}

// Restore counts what was taken again: it has not been added to anything.
func (c *Counter) Restore(taken Counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.join(&taken.sum)
	for i, count := range taken.sum.counts {
		c.before.counts[i] -= count
	}
	c.before.ran -= taken.sum.ran
	c.before.waits -= taken.sum.waits
	for path, of := range taken.functions {
		if known := c.functions[path]; known != nil {
			known.join(of)
		} else if c.functions == nil {
			c.functions = map[string]*record{path: of}
		} else {
			c.functions[path] = of
		}
	}
}

func (r *record) join(other *record) {
	for i, count := range other.counts {
		r.counts[i] += count
	}
	r.ran += other.ran
	r.waits += other.waits
}

// Words are the counts as the script takes them: a path and its counts in turn, the sum first, whose path is empty.
func (t Counts) Words() []string {
	words := []string{"", t.sum.packed()}
	for path, of := range t.functions {
		if path != "" {
			words = append(words, path, of.packed())
		}
	}
	return words
}

// packed is an array of field and amount in turn.
func (r *record) packed() string {
	counts := r.counts
	counts[run], counts[wait] = r.ran.Milliseconds(), r.waits.Milliseconds()
	some := 0
	for _, count := range counts {
		if count > 0 {
			some++
		}
	}
	packed := wire.AppendArray(nil, 2*some)
	for field, count := range counts {
		if count > 0 {
			packed = wire.AppendUint(wire.AppendUint(packed, uint64(field)), uint64(count)) //nolint:gosec // neither is below 0
		}
	}
	return string(packed)
}
