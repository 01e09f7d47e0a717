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
		b.Worker, Decimal(Epoch(time.Now())), Milliseconds(TrackedFor), Decimal(b.Attempt), Decimal(b.Holds.Limit), mark)
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
	return ScriptCall("conclude", s.Keys.ending(c.Holds, s.Keys.Lost, s.Keys.Dead), lease, c.Holds.word(), c.State, string(c.Result),
		Decimal(Rounded(c.Keep)), c.Reason, c.Detail, c.Worker, c.Error)
}

// Finishing is the command that ends the lease of a tracked task that has succeeded and holds nothing but its state: see Concluding.
func (s *Store) Finishing(lease string, c Conclusion) []string {
	keys := []string{s.Keys.Processing, s.Keys.Task(c.Holds.ID)}
	return ScriptCall("finish", keys, lease, string(c.Result), Decimal(Rounded(c.Keep)), c.Worker)
}

// Start is a task that is tracked and holds nothing but its state.
type Start struct {
	Lease   string
	ID      string
	Attempt int64 // counted from 1
}

// StartAlone is what StartMany says of a task that Start has to be asked about.
const StartAlone StartResult = -1

// StartMany says that tasks begin: what Start does for one.
func (s *Store) StartMany(ctx context.Context, tasks []Start, worker string) ([]StartResult, error) {
	keys := []string{s.Keys.Processing}
	args := []string{worker, Decimal(Epoch(time.Now())), Milliseconds(TrackedFor)}
	for _, task := range tasks {
		keys, args = append(keys, s.Keys.Task(task.ID)), append(args, task.Lease, Decimal(task.Attempt))
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

// Cancel cancels a tracked task; result is what those who wait are told, and is kept for so long. how is what a running task is told:
// "1", or "hard" if its process shall end with it. It returns the state in which the task was, or nothing if no such task is known.
// See Handle.Cancel.
func (s *Store) Cancel(ctx context.Context, id string, result []byte, keep time.Duration, how string) (string, error) {
	k := s.Keys
	reply, err := s.Caller.Call(ctx, "HMGET", k.Task(id), "unique", "place")
	values, _ := reply.([]any)
	if err != nil || len(values) != 2 {
		return "", err
	}
	place, own := k.Scheduled, k.Held(Holds{ID: id})
	if key := string(Bulk(values[0])); k.ownsUnique(key) {
		own[1], own[2] = key, k.WaitsForUnique(key)
	}
	if key := string(Bulk(values[1])); k.ownsWaits(key) {
		place = key
	}
	keys := slices.Concat(k.home(), []string{place}, own)
	reply, err = s.Run(ctx, "cancel", keys, id, string(result), Milliseconds(keep), how, Milliseconds(TrackedFor))
	return string(Bulk(reply)), err
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
