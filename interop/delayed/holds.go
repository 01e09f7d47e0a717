package delayed

import (
	"context"
	"regexp"
	"slices"
	"strconv"
)

const waitedPage = 100 // keys that tasks wait for, in one call of Wake

// sought is what a field of Q_waited says.
var sought = regexp.MustCompile(`^(unique):([0-9a-f]{40})$|^(slots):([0-9a-f]{40}):([0-9]{1,16})$`)

// Holds is what a task may hold, as its headers name it.
type Holds struct {
	ID     string     // of a tracked task: it has a state, and perhaps a result
	Unique string     // its unique key, …
	Mode   UniqueMode // … and for how long it has that; empty for a task without one
	Slots  string     // its concurrency key, …
	Limit  int64      // … and how many tasks with that run at once; 0 for a task without one
}

// holdsOf is what a task with these headers may hold. Only a tracked one has a unique key.
func holdsOf(headers map[string]any) Holds {
	h := Holds{ID: idOf(headers)}
	if h.ID != "" {
		h.Unique, h.Mode, _ = uniqueOf(headers)
	}
	h.Slots, h.Limit = concurrencyOf(headers)
	return h
}

// holdsIn is what the task in data, of either language, may hold.
func holdsIn(data []byte) Holds {
	_, headers, _ := glance(data)
	return holdsOf(headers)
}

// whileRunning is what it holds only while it runs: no unique key that it has from its enqueue on.
func (h Holds) whileRunning() Holds {
	if h.Mode != WhileRunning {
		h.Unique, h.Mode = "", ""
	}
	return h
}

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
	case WhileRunning:
		return "take"
	case WhileQueued:
		return "free"
	}
	return "leave"
}

// home is what every script that ends leases begins with: where tasks are held, and where those wait that it wakes.
func (k Keys) home() []string { return []string{k.Processing, k.Queue, k.Noti, k.Waited} }

// own are the six keys of what a task may hold, in the order that all scripts know: state, result, unique key, who waits for that,
// slots, who waits for one. Processing stands for what it has not.
func (k Keys) own(h Holds) []string {
	keys := slices.Repeat([]string{k.Processing}, 6)
	if h.ID != "" {
		keys[0], keys[1] = k.Task(h.ID), k.Result(h.ID)
	}
	if h.Mode != "" {
		keys[2] = k.Unique(h.Unique)
		keys[3] = k.WaitsForUnique(keys[2])
	}
	if h.Limit > 0 {
		keys[4], keys[5] = k.Slots(h.Slots), k.WaitsForSlot(h.Slots)
	}
	return keys
}

// ending are the keys of a script that ends one lease: home, some of its own, and what the task holds.
func (k Keys) ending(h Holds, keys ...string) []string {
	return slices.Concat(k.home(), keys, k.own(h))
}

// several are what scripts that end several leases are told of a task: its id, or what stands for that, and its six keys.
func (k Keys) several(h Holds) (word string, keys []string) {
	if h.ID == "" && h.Limit == 0 {
		return "", nil
	}
	return h.word(), k.own(h)
}

// givingBack are keys and arguments of give_back: tasks has what is held under each lease, as far as that is known.
func (q *Queue) givingBack(leases []string, tasks map[string][]byte, begun int) (keys, args []string) {
	keys, args = append(q.Keys.home(), q.Keys.Bucket), []string{strconv.Itoa(begun)}
	for _, lease := range leases {
		word, own := q.Keys.several(holdsIn(tasks[lease]).whileRunning())
		keys, args = append(keys, own...), append(args, lease, word)
	}
	return keys, args
}

// Wake lets tasks go on that wait for a key which is free. waiting is what is known of sets of tasks that wait, as Keys.Waited says it.
// It returns how many were woken.
func (q *Queue) Wake(ctx context.Context, waiting map[string]string) (int, error) {
	keys, args := q.Keys.home(), []string(nil)
	for name, what := range waiting {
		found := sought.FindStringSubmatch(what)
		switch {
		case found == nil || !isDigest(name):
		case found[1] != "":
			keys, args = append(keys, q.Keys.waits(name), q.Keys.Queue+"_unique_"+found[2]), append(args, "0")
		default:
			keys, args = append(keys, q.Keys.waits(name), q.Keys.Queue+"_slots_"+found[4]), append(args, found[5])
		}
	}
	if args == nil {
		return 0, nil
	}
	return q.count(ctx, "wake", keys, args...)
}

// WakeAll is Wake for all tasks that wait for a key.
func (q *Queue) WakeAll(ctx context.Context) (woken int, err error) {
	for cursor := "0"; ; {
		reply, err := q.caller.call(ctx, "HSCAN", q.Keys.Waited, cursor, "COUNT", strconv.Itoa(waitedPage))
		values, _ := reply.([]any)
		if err != nil || len(values) != 2 {
			return woken, err
		}
		some := map[string]string{}
		for name, what := range fieldsOf(values[1]) {
			some[name] = what
			if len(some) == waitedPage { // a small hash comes in one page, whatever was asked for
				n, err := q.Wake(ctx, some)
				if woken += n; err != nil {
					return woken, err
				}
				clear(some)
			}
		}
		n, err := q.Wake(ctx, some)
		woken += n
		if cursor = string(bulk(values[0])); err != nil || cursor == "0" {
			return woken, err
		}
	}
}

// wakeWaiting is the step of a sweep.
func wakeWaiting(ctx context.Context, queue *Queue) error {
	_, err := queue.WakeAll(ctx)
	return err
}
