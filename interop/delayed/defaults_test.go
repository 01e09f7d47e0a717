package delayed

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

// Python reads the same file.
func TestTheDefaultsAreThoseOfPython(t *testing.T) {
	text, err := os.ReadFile("../../tests/vectors/defaults.json")
	must(t, err)
	var wants map[string]any
	must(t, json.Unmarshal(text, &wants))
	queue, err := NewQueue("q", connectTo(t, shared))
	must(t, err)
	worker, err := NewWorker([]*Queue{queue})
	must(t, err)
	sweeper, err := NewSweeper([]*Queue{queue})
	must(t, err)
	for name, got := range map[string]time.Duration{
		"reply_deadline": conn.Deadline, "beat": worker.beat, "ttl": worker.ttl, "grace": worker.grace,
		"sweep_interval": sweeper.interval, "cancel_look": lookEvery, "dequeue_timeout": queue.timeout, "unready_for": worker.unreadyFor, "dead_age": sweeper.deadAge,
		"tracked": rdb.TrackedFor, "ended": rdb.EndedFor,
	} {
		if want := time.Duration(wants[name].(float64)) * time.Millisecond; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, got := range map[string]int{
		"lost_limit": sweeper.limit, "dead_max": sweeper.deadMax, "max_task_size": queue.maxSize,
	} {
		if want := int(wants[name].(float64)); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	for _, pair := range wants["sweeper_ttl"].([]any) {
		interval, ttl := pair.([]any)[0].(float64), pair.([]any)[1].(float64)
		sweeper.interval = time.Duration(interval) * time.Millisecond
		if want := time.Duration(ttl) * time.Millisecond; sweeper.ownTTL() != want {
			t.Errorf("%s: %s, want %s", sweeper.interval, sweeper.ownTTL(), want)
		}
	}
}
