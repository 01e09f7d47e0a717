package rdb

import (
	"regexp"
	"slices"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
)

// sought is what a field of Q_waited says.
var sought = regexp.MustCompile(`^(unique):([0-9a-f]{40})$|^(slots):([0-9a-f]{40}):([0-9]{1,16})$`)

// Holds is what a task may hold, as its headers name it.
type Holds struct {
	ID     string // of a tracked task: it has a state, and perhaps a result
	Unique string // its unique key, …
	Mode   string // … and for how long it has that (whileQueued …); empty for a task without one
	Slots  string // its concurrency key, …
	Limit  int64  // … and how many tasks with that run at once; 0 for a task without one
	Member Member // of the workflow that hears how it ends
}

// HoldsOf is what a task with these headers may hold. Only a tracked one has a unique key.
func HoldsOf(headers *wire.Headers) Holds {
	h := Holds{ID: headers.TrackedID()}
	if h.ID != "" {
		h.Unique, h.Mode, _ = headers.UniqueKey()
	}
	h.Slots, h.Limit = headers.ConcurrencyKey()
	h.Member = MemberOf(headers)
	return h
}

// HoldsIn is what the task in data, of either language, may hold.
func HoldsIn(data []byte) Holds {
	_, headers, _ := wire.Peek(data)
	return HoldsOf(&headers)
}

// whileRunning is what it holds only while it runs: no unique key that it has from its enqueue on.
func (h Holds) whileRunning() Holds {
	if h.Mode != wire.WhileRunning {
		h.Unique, h.Mode = "", ""
	}
	return h
}

// BeginsWithOthers reports whether one question may begin it with others: it need not take or free a unique key.
func (h Holds) BeginsWithOthers() bool {
	return h.Unique == "" || h.Limit == 0 && h.Mode != wire.WhileRunning && h.Mode != wire.WhileQueued
}

// HasOneKey reports whether the task holds a key, of concurrency or a unique one, and not both.
func (h Holds) HasOneKey() bool { return (h.Mode != "") != (h.Limit > 0) }

// word is the id, as scripts have it.
func (h Holds) word() string {
	if h.ID == "" {
		return "-"
	}
	return h.ID
}

// fate is what becomes of the unique key when the task begins.
func (h Holds) fate() string {
	switch h.Mode {
	case wire.WhileRunning:
		return "take"
	case wire.WhileQueued:
		return "free"
	}
	return "leave"
}

// home is what every script that ends leases begins with: where tasks are held, and where those wait that it wakes.
func (k Keys) home() []string { return []string{k.Processing, k.Queue, k.Noti, k.Waited} }

// Held are the five keys of what a task may hold, in the order that all scripts know: state, unique key, who waits for that, slots, who
// waits for one. Processing stands for what it has not.
func (k Keys) Held(h Holds) []string {
	keys := slices.Repeat([]string{k.Processing}, 5)
	if h.ID != "" {
		keys[0] = k.Task(h.ID)
	}
	if h.Mode != "" {
		keys[1] = k.Unique(h.Unique)
		keys[2] = k.WaitsForUnique(keys[1])
	}
	if h.Limit > 0 {
		keys[3], keys[4] = k.Slots(h.Slots), k.WaitsForSlot(h.Slots)
	}
	return keys
}

// ending are the keys of a script that ends one lease: home, some of its own, and what the task holds.
func (k Keys) ending(h Holds, keys ...string) []string {
	return slices.Concat(k.home(), keys, k.Held(h))
}

// endingSlot is ending for a task without an id: of what it may hold only a slot matters.
func (k Keys) endingSlot(h Holds, keys ...string) []string {
	if h.Limit == 0 {
		return append(k.home(), keys...)
	}
	return k.ending(h, keys...)
}

// several are what scripts that end several leases are told of a task: its id, or what stands for that, and its five keys.
func (k Keys) several(h Holds) (word string, keys []string) {
	if h.ID == "" && h.Limit == 0 {
		return "", nil
	}
	return h.word(), k.Held(h)
}

// KeepsOf is how long the end of a task with these headers is kept.
func KeepsOf(headers *wire.Headers) time.Duration {
	if ttl := Span(headers.Number(wire.ResultTTL)); ttl > 0 {
		return ttl
	}
	return EndedFor
}
