package wire

import (
	"cmp"
	"strings"
)

// Peek is what a task of either language says of itself: its path, and its headers if it has any; ok is false for what is no task.
func Peek(data []byte) (path string, headers Headers, ok bool) {
	if end, err := Skip(data, 0); err != nil || end != len(data) {
		return "", Headers{}, false
	}
	whole, _ := HeadAt(data, 0)
	fields, at := 1, 0 // a bare string stands for a task without arguments
	if whole.Kind == KindArray {
		fields, at = whole.Values, whole.Body
	}
	if fields == 0 {
		return "", Headers{}, false
	}
	h, _ := HeadAt(data, at)
	if h.Kind != KindString {
		return "", Headers{}, false
	}
	path = string(data[h.Body : h.Body+h.Size])
	place := 2
	if strings.Contains(path, Separator) {
		place = 4
	}
	if fields <= place {
		return path, Headers{}, true
	}
	for range place {
		at, _ = Skip(data, at)
	}
	headers, _ = HeadersAt(data, at)
	return path, headers, true
}

// TrackedID is the id of a tracked task; empty for others, also if it has not the form of an id: it is part of keys.
func (h *Headers) TrackedID() string { return h.id(ID) }

// UntrackedID is the id of a task that has one without being tracked; empty for others.
func (h *Headers) UntrackedID() string { return h.id(UID) }

// AnyID is the id of a task, tracked or not; empty if it has none.
func (h *Headers) AnyID() string { return cmp.Or(h.TrackedID(), h.UntrackedID()) }

func (h *Headers) id(name Name) string {
	if text, _ := h.Text(name); IsID(text) {
		return text
	}
	return ""
}

const MostCount = 1 << 53 // attempts, or tasks at once: more are nonsense

// How long a task has its unique key, as the header says it.
const (
	WhileQueued  = "while_queued"
	WhileRunning = "while_running"
	UntilDone    = "until_done"
)

// UniqueKey are unique key, mode and bound in milliseconds; zero for none.
func (h *Headers) UniqueKey() (key, mode string, bound int64) {
	list, _ := h.Value(Unique).([]any)
	if len(list) != 3 {
		return "", "", 0
	}
	key, isKey := list[0].(string)
	word, isMode := list[1].(string)
	bound, isBound := list[2].(int64)
	if !isKey || !isMode || !isBound {
		return "", "", 0
	}
	return key, word, bound
}

// ConcurrencyKey are concurrency key and limit; zero for none.
func (h *Headers) ConcurrencyKey() (key string, limit int64) {
	list, _ := h.Value(Concurrency).([]any)
	if len(list) != 2 {
		return "", 0
	}
	key, isKey := list[0].(string)
	if limit, _ = list[1].(int64); !isKey || limit <= 0 {
		return "", 0
	}
	return key, min(limit, MostCount)
}

// Member are the home of the workflow of which the task is a node, and its set of nodes; ok is false for a task that is none.
func (h *Headers) Member() (home string, set int64, ok bool) {
	if !h.Has(Flow) {
		return "", 0, false
	}
	list, _ := h.Value(Flow).([]any)
	if len(list) != 2 {
		return "", 0, false
	}
	home, isHome := list[0].(string)
	set, isSet := list[1].(int64)
	return home, set, isHome && isSet && home != "" && 0 <= set && set <= MostCount
}

// IsID reports whether this is the id of a task by its form: it is part of keys, and is cut off again by its length.
func IsID(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(text) == 16
}

const Separator = ":" // in the path of a Python function, and in no other
