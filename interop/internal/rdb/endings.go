package rdb

import (
	"context"
	"slices"
	"strconv"
	"time"
)

// StartResult is what Queue.Start says.
type StartResult int

// What it says.
const (
	StartSuperseded StartResult = iota // the lease does not hold the task any more
	StartBegins
	StartCancelled // somebody has cancelled the task
	StartBusy      // another task has the unique key: this one waits for it, and the lease holds nothing any more
	StartFull      // as many tasks with its concurrency key run as may: likewise
)

// Beginning is a task that begins which is tracked or has a concurrency key.
type Beginning struct {
	Holds   Holds
	Bound   time.Duration // that a unique key stays taken which it takes now
	Worker  string        // who begins
	Attempt int64         // which this is, counted from 1
	Group   *string       // whose task it is, if it has a group
}

// Start says that a task begins under a lease, unless it may not. Its state is kept for trackedFor.
func (s *Store) Start(ctx context.Context, lease string, b Beginning) (StartResult, error) {
	mark := b.Holds.ID
	if mark == "" {
		mark = Token()
	}
	if b.Group != nil {
		mark += ":" + Digest(*b.Group)
	}
	n, err := s.count(ctx, "start", s.Keys.ending(b.Holds, s.Keys.Bucket), lease, b.Holds.word(), b.Holds.fate(), Milliseconds(b.Bound),
		b.Worker, Decimal(time.Now().UnixMilli()), Milliseconds(TrackedFor), Decimal(b.Attempt), Decimal(b.Holds.Limit), mark)
	return StartResult(n), err
}

// Conclusion is how a tracked task ended.
type Conclusion struct {
	Holds  Holds
	State  string
	Result []byte        // what those who wait are told
	Keep   time.Duration // that this is kept
	Reason string        // of its dead letter; empty for none
	Detail string
	Worker string // who ends it
	Error  string // what a task that failed said
	// Of a node of a workflow that has succeeded: what it has returned, as results are packed; empty for nothing.
	Value []byte
}

// Success is the command that ends the lease of a task without an id which is done.
func (s *Store) Success(lease string, h Holds) []string {
	return ScriptCall("succeed", s.Keys.endingSlot(h, s.Keys.Lost), lease)
}

// Burial is the command that ends a lease: its task, which has no id, becomes a dead letter.
func (s *Store) Burial(lease string, h Holds, reason, detail, worker string) []string {
	return ScriptCall("bury", s.Keys.endingSlot(h, s.Keys.Lost, s.Keys.Dead), lease, reason, detail, worker)
}

// Concluding is the command that ends the lease of a tracked task: it stores how the task ended, frees what it held, and makes it a dead
// letter if there is a reason.
func (s *Store) Concluding(lease string, c Conclusion) []string {
	value := c.Result
	if c.State == "succeeded" {
		value = c.Value
	}
	told, entry := s.told(c.Holds.Member, "e", marks[c.State]+" "+string(value))
	keys := s.Keys.ending(c.Holds, append([]string{s.Keys.Lost, s.Keys.Dead}, told...)...)
	return ScriptCall("conclude", keys, lease, c.Holds.word(), c.State, string(c.Result),
		Decimal(Rounded(c.Keep)), c.Reason, c.Detail, c.Worker, c.Error, entry)
}

// Finish is a task that has succeeded and holds nothing but its state, or one key, and is of no workflow.
type Finish struct {
	Lease  string
	Holds  Holds
	Result []byte        // what those who wait are told
	Keep   time.Duration // that this is kept
	Ended  time.Time     // when it did
}

// Finishing is the command that ends the leases of tasks, which have ended about when the first one did: see Concluding. All leases are of
// this queue, and all of the tasks have a key, or none has.
func (s *Store) Finishing(tasks ...*Finish) []string {
	if tasks[0].Holds.HasOneKey() {
		return s.finishingHeld(tasks)
	}
	keys := append(make([]string, 0, 1+len(tasks)), s.Keys.Processing)
	args := append(make([]string, 0, 1+3*len(tasks)), Decimal(tasks[0].Ended.UnixMilli()))
	for _, task := range tasks {
		keys, args = append(keys, s.Keys.Task(task.Holds.ID)), append(args, task.Lease, string(task.Result), Decimal(Rounded(task.Keep)))
	}
	return ScriptCall("finish_many", keys, args...)
}

// finishingHeld is Finishing for tasks that have one key each.
func (s *Store) finishingHeld(tasks []*Finish) []string {
	keys := append(make([]string, 0, 4+3*len(tasks)), s.Keys.home()...)
	args := append(make([]string, 0, 1+4*len(tasks)), Decimal(tasks[0].Ended.UnixMilli()))
	for _, task := range tasks {
		own, owner := s.Keys.Held(task.Holds), "-"
		key, line := own[3], own[4]
		if task.Holds.Mode != "" {
			key, line, owner = own[1], own[2], task.Holds.ID
		}
		keys = append(keys, own[0], key, line)
		args = append(args, task.Lease, owner, string(task.Result), Decimal(Rounded(task.Keep)))
	}
	return ScriptCall("finish_held", keys, args...)
}

// Start is a task that is tracked or has a concurrency key, and BeginsWithOthers.
type Start struct {
	Lease   string
	Holds   Holds
	Attempt int64 // counted from 1
}

// keys are the task's own: its state, and if it has a concurrency key its slots.
func (s Start) keys(k Keys) []string {
	keys := []string{k.Processing}
	if s.Holds.ID != "" {
		keys[0] = k.Task(s.Holds.ID)
	}
	if s.Holds.Limit > 0 {
		keys = append(keys, k.Slots(s.Holds.Slots))
	}
	return keys
}

// what says what it has beside its state.
func (s Start) what() string {
	switch {
	case s.Holds.Limit > 0:
		return Decimal(s.Holds.Limit)
	case s.Holds.Unique != "":
		return "unique"
	}
	return ""
}

// StartAlone is what StartMany says of a task that Start has to be asked about.
const StartAlone StartResult = -1

// StartMany says that tasks begin: what Start does for one.
func (s *Store) StartMany(ctx context.Context, tasks []Start, worker string) ([]StartResult, error) {
	keys := []string{s.Keys.Processing}
	args := []string{worker, Decimal(time.Now().UnixMilli()), Milliseconds(TrackedFor)}
	for _, task := range tasks {
		keys, args = append(keys, task.keys(s.Keys)...), append(args, task.Lease, Decimal(task.Attempt), task.what())
	}
	reply, err := s.Run(ctx, "start_many", keys, args...)
	values, _ := reply.([]any)
	answers := make([]StartResult, len(tasks))
	for i := range answers {
		answers[i] = StartAlone
		if i < len(values) {
			n, _ := values[i].(int64)
			answers[i] = StartResult(n)
		}
	}
	return answers, err
}

// keptFor is for how long the state of a task is kept that goes on waiting, as scripts have it, and the id that stands before it then.
func keptFor(h Holds) (kept, id string) {
	if h.ID == "" {
		return "0", Token()
	}
	return Milliseconds(TrackedFor), h.ID
}

// Postponing is the command that ends a lease: its task waits again, as data, after a delay; why is what the attempt said. What it held
// while it ran is free.
func (s *Store) Postponing(lease string, data []byte, h Holds, to Destination, delay time.Duration, why string) []string {
	k := s.Keys
	kept, id := keptFor(h)
	keys := k.ending(h.whileRunning(), k.Lost, k.Scheduled, k.Wake, to.List, to.Announces)
	return ScriptCall("postpone", keys, lease, string(data), id, Decimal(Rounded(delay)), kept, why, to.Word)
}

// DeferResult is what Queue.Defer says.
type DeferResult int

// What it says.
const (
	DeferSuperseded DeferResult = iota // the lease does not hold the task any more
	DeferDone                          // the task waits
	DeferOver                          // it has waited for as long as it may; nothing has happened
)

// Deferring is the command that ends a lease whose task cannot run here and now, and may elsewhere or later: it waits, unchanged, and
// longer each time, until limit is over, counted from the first time. cause is why, for its state.
func (s *Store) Deferring(lease string, h Holds, to Destination, limit time.Duration, cause string) []string {
	k := s.Keys
	kept, id := keptFor(h)
	keys := k.ending(h.whileRunning(), k.Scheduled, k.Wake, k.Deferred, k.Bucket)
	return ScriptCall("defer", keys, lease, id, kept, Decimal(Rounded(limit)), to.Word, cause)
}

// DeferredOf is the reply to the script defer: what it says, the time until the task is tried again, and the time since it was deferred
// first.
func DeferredOf(reply any) (said DeferResult, pause, age time.Duration) {
	var n [3]int64
	values, _ := reply.([]any)
	for i, value := range values[:min(len(values), len(n))] {
		n[i], _ = value.(int64)
	}
	return DeferResult(n[0]), time.Duration(n[1]) * time.Millisecond, time.Duration(n[2]) * time.Millisecond
}

// Progress stores how far a tracked task says that it is (MessagePack: done, total, note). False if its state is not known any more.
func (s *Store) Progress(ctx context.Context, id string, packed []byte) (bool, error) {
	n, err := s.count(ctx, "progress", []string{s.Keys.Task(id)}, string(packed))
	return n == 1, err
}

// Erase erases the state of a tracked task that has ended. It returns the state in which it was, or nothing if no such task is known;
// nothing has happened if it has not ended. See Handle.Forget.
func (s *Store) Erase(ctx context.Context, id string) (string, error) {
	reply, err := s.Run(ctx, "erase", []string{s.Keys.Task(id)})
	return string(Bulk(reply)), err
}

// Cancel cancels a tracked task; result is what those who wait are told, and is kept for so long. how is what a running task is told:
// "1", or "hard" if its process shall end with it. It returns the state in which the task was, or nothing if no such task is known.
// See Handle.Cancel.
func (s *Store) Cancel(ctx context.Context, id string, result []byte, keep time.Duration, how string) (string, error) {
	k := s.Keys
	reply, err := s.Caller.Call(ctx, "HMGET", k.Task(id), "unique", "place", "data")
	values, _ := reply.([]any)
	if err != nil || len(values) != 3 {
		return "", err
	}
	place, own := k.Scheduled, k.Held(Holds{ID: id})
	if key := string(Bulk(values[0])); k.ownsUnique(key) {
		own[1], own[2] = key, k.WaitsForUnique(key)
	}
	if key := string(Bulk(values[1])); k.ownsWaits(key) {
		place = key
	}
	told, entry := s.told(memberWaiting(Bulk(values[2])), "e", "c")
	keys := slices.Concat(k.home(), []string{place, k.History, k.Control}, told, own)
	reply, err = s.Run(ctx, "cancel", keys, id, string(result), Milliseconds(keep), how, Milliseconds(TrackedFor), entry,
		Place())
	return string(Bulk(reply)), err
}

// memberWaiting is of which workflow a task is a node whose state says that it waits as data.
func memberWaiting(data []byte) Member { return HoldsIn(ungrouped(data)).Member }

// ungrouped is a task without what says whose it is, if it waits so that it has that.
func ungrouped(data []byte) []byte {
	const grouped = 41 // characters
	if len(data) > grouped && data[0] == ':' {
		return data[grouped:]
	}
	return data
}

// GiveBack ends leases: their tasks go back to the head of the queue, untouched. tasks has the tasks that they hold, as far as those are
// known: what these hold is free. Of the first begun leases the tasks had begun; the others get back the tokens that they took. It returns
// how many went.
func (s *Store) GiveBack(ctx context.Context, leases []string, tasks map[string][]byte, begun int) (int, error) {
	return s.counted(ctx, s.GivingBack(leases, tasks, begun))
}

// GivingBack is the command of GiveBack.
func (s *Store) GivingBack(leases []string, tasks map[string][]byte, begun int) []string {
	keys, args := append(s.Keys.home(), s.Keys.Bucket), []string{strconv.Itoa(begun)}
	for _, lease := range leases {
		word, own := s.Keys.several(HoldsIn(tasks[lease]).whileRunning())
		keys, args = append(keys, own...), append(args, lease, word)
	}
	return ScriptCall("give_back", keys, args...)
}
