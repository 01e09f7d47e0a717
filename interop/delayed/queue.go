package delayed

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	maxTaskSize    = 1 << 20         // bytes
	repairStep     = 4000            // notifications that one call of Repair adds or removes at most
	dequeueTimeout = 2 * time.Second // that an idle worker waits for a notification before it looks for itself
	sweptAtOnce    = 100             // leases in one call of the script sweep, …
	sweptBytes     = 1 << 20         // … and bytes of what they hold
)

// caller runs one Redis command and returns its reply, over a client's pool or over one connection.
type caller interface {
	call(ctx context.Context, args ...string) (any, error)
}

// Queue is a task queue on Redis: what producers call, and one short method for each Lua script. It is safe for use by many
// goroutines.
type Queue struct {
	// Keys are its keys on Redis.
	Keys       Keys
	client     redis.UniversalClient
	caller     caller
	maxSize    int
	timeout    time.Duration
	durability *durability
	defined    *definitions
	time       *serverTime
}

// QueueOption changes a Queue.
type QueueOption func(*Queue)

// MaxTaskSize says how many bytes a task may have: 1 MiB by default.
func MaxTaskSize(bytes int) QueueOption { return func(q *Queue) { q.maxSize = bytes } }

// DequeueTimeout says how long an idle worker waits for a notification before it looks for itself: 2 s by default.
func DequeueTimeout(d time.Duration) QueueOption { return func(q *Queue) { q.timeout = d } }

// NewQueue makes a queue, without asking Redis. client stays the caller's; its pool is used, its retries are not. On Redis Cluster
// the name holds a `{tag}`. The error wraps ErrConfiguration.
func NewQueue(name string, client redis.UniversalClient, options ...QueueOption) (*Queue, error) {
	keys, err := NewKeys(name)
	if err != nil {
		return nil, err
	}
	q := &Queue{Keys: keys, client: client, caller: pooled{client}, maxSize: maxTaskSize, timeout: dequeueTimeout,
		durability: &durability{text: inMemory, timeout: durabilityTimeout}, defined: &definitions{}, time: &serverTime{}}
	for _, option := range options {
		option(q)
	}
	if err := q.durability.check(); err != nil {
		return nil, err
	}
	_, clustered := client.(*redis.ClusterClient)
	switch {
	case q.maxSize < 1:
		return nil, fmt.Errorf("%w: MaxTaskSize is a number of bytes above 0, not %d", ErrConfiguration, q.maxSize)
	case q.timeout < 10*time.Millisecond: // Redis takes less than a millisecond for ever
		return nil, fmt.Errorf("%w: DequeueTimeout is at least 10 ms, not %s", ErrConfiguration, q.timeout)
	case clustered && !sharesSlot(name):
		return nil, fmt.Errorf("%w: on Redis Cluster the keys of a queue must share a slot: call it %q instead of %q",
			ErrConfiguration, "{"+name+"}", name)
	}
	return q, nil
}

// Name is the queue's name.
func (q *Queue) Name() string { return q.Keys.Queue }

// over is the same queue with its commands sent through another caller, for example a worker's own connection.
func (q *Queue) over(c caller) *Queue {
	other := *q
	other.caller = c
	return &other
}

func (q *Queue) run(ctx context.Context, name string, keys []string, args ...string) (any, error) {
	script := scripts[name]
	command := script.command(keys, args)
	reply, err := q.caller.call(ctx, command...)
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		return q.caller.call(ctx, script.withSource(command)...)
	}
	return reply, err
}

func (q *Queue) count(ctx context.Context, name string, keys []string, args ...string) (int, error) {
	reply, err := q.run(ctx, name, keys, args...)
	n, _ := reply.(int64)
	return int(n), err
}

// Taken is what Take got: task i is held under lease i.
type Taken struct {
	Tasks   [][]byte
	Suspect bool // the only task has been lost before
}

// TakeOptions say how to take.
type TakeOptions struct {
	Holder  string        // who takes, for humans: the value of a lease's key
	TTL     time.Duration // of the leases' keys that are made now
	Living  int           // how many of the leases, from the first, have a living key already
	Claims  int           // how many notifications the caller has popped already
	Waiting bool          // take whatever waits; else no more tasks than there are notifications
}

// Take takes up to one task for each lease, together with its notification. The leases are names that nobody else uses and that
// hold nothing now.
func (q *Queue) Take(ctx context.Context, leases []string, o TakeOptions) (Taken, error) {
	keys := append([]string{q.Keys.Queue, q.Keys.Noti, q.Keys.Processing, q.Keys.Lost}, leases...)
	reply, err := q.run(ctx, "take", keys, o.arguments()...)
	values, _ := reply.([]any)
	if err != nil || len(values) < 2 {
		return Taken{}, err
	}
	return takenFrom(values[0], values[1:]), nil
}

func (o TakeOptions) arguments() []string {
	limit := "notified"
	if o.Waiting {
		limit = "waiting"
	}
	return []string{strconv.Itoa(o.Claims), limit, strconv.Itoa(o.Living), o.Holder, milliseconds(o.TTL)}
}

func takenFrom(suspect any, tasks []any) Taken {
	taken := Taken{Tasks: make([][]byte, len(tasks)), Suspect: suspect == int64(1)}
	for i, task := range tasks {
		taken.Tasks[i] = bulk(task)
	}
	return taken
}

// Succeed ends a lease: its task is done. False if the caller was superseded.
func (q *Queue) Succeed(ctx context.Context, lease string) (bool, error) {
	n, err := q.count(ctx, "succeed", append(q.Keys.home(), q.Keys.Lost), lease)
	return n == 1, err
}

// Retry ends a lease: its task waits again, as data. False if the caller was superseded.
func (q *Queue) Retry(ctx context.Context, lease string, data []byte) (bool, error) {
	n, err := q.count(ctx, "retry", []string{q.Keys.Queue, q.Keys.Noti, q.Keys.Processing, q.Keys.Lost}, lease, string(data))
	return n == 1, err
}

// Bury ends a lease: its task becomes a dead letter. False if the caller was superseded.
func (q *Queue) Bury(ctx context.Context, lease string, reason Reason, detail, worker string) (bool, error) {
	n, err := q.count(ctx, "bury", append(q.Keys.home(), q.Keys.Lost, q.Keys.Dead), lease, string(reason), detail, worker)
	return n == 1, err
}

// GiveBack ends leases: their tasks go back to the head of the queue, untouched. tasks has the tasks that they hold, as far as those are
// known: what these hold is free. Of the first begun leases the tasks had begun; the others get back the tokens that they took. It returns
// how many went.
func (q *Queue) GiveBack(ctx context.Context, leases []string, tasks map[string][]byte, begun int) (int, error) {
	keys, args := q.givingBack(leases, tasks, begun)
	return q.count(ctx, "give_back", keys, args...)
}

// Found is what Due found.
type Found struct {
	First int           // index of the first queue that has waiting tasks, or -1
	Moved int           // tasks that were due
	Pause time.Duration // until the next task is due; 0 if more are due now, negative if nothing is scheduled
}

// Due moves up to most tasks that are due to their queues, or to the lists of their groups, and looks which of the queues has waiting
// tasks. They are on this queue's server (and, on a cluster, in its slot).
func (q *Queue) Due(ctx context.Context, queues []*Queue, most int) (Found, error) {
	keys := make([]string, 0, 3*len(queues))
	for _, each := range queues {
		keys = append(keys, each.Keys.Queue, each.Keys.Noti, each.Keys.Scheduled)
	}
	n, err := q.numbers(ctx, "due", keys, strconv.Itoa(most), "leave")
	moved := n[1]
	if err == nil && n[3] > 0 {
		var back int
		if back, err = queues[n[3]-1].over(q.caller).toGroups(ctx, most); err == nil {
			n, err = q.numbers(ctx, "due", keys, strconv.Itoa(most), "leave")
			moved += back + n[1]
		}
	}
	if err != nil {
		return Found{First: -1, Pause: -1}, err
	}
	return Found{First: n[0] - 1, Moved: moved, Pause: time.Duration(n[2]) * time.Millisecond}, nil
}

// Page lists some leases named in the hash key (Keys.Processing or Keys.Workers), and the cursor of the next page or "0".
func (q *Queue) Page(ctx context.Context, key, cursor string, count int) (next string, leases []string, err error) {
	reply, err := q.run(ctx, "page", []string{key}, cursor, strconv.Itoa(count))
	values, _ := reply.([]any)
	if err != nil || len(values) == 0 {
		return "0", nil, err
	}
	for _, value := range values[1:] {
		leases = append(leases, string(bulk(value)))
	}
	return string(bulk(values[0])), leases, nil
}

// Alive is how many of the leases live.
func (q *Queue) Alive(ctx context.Context, leases []string) (int, error) {
	if len(leases) == 0 {
		return 0, nil
	}
	reply, err := q.caller.call(ctx, append([]string{"EXISTS"}, leases...)...)
	n, _ := reply.(int64)
	return int(n), err
}

// Swept is what Sweep did.
type Swept struct {
	Recovered int  // tasks put back
	Buried    int  // tasks lost too often
	More      bool // there was too much for one call
}

// Gone are those of the leases that are dead and hold something, and how many bytes.
func (q *Queue) Gone(ctx context.Context, leases []string) (dead []string, sizes []int64, err error) {
	if len(leases) == 0 {
		return nil, nil, nil
	}
	reply, err := q.run(ctx, "gone", append([]string{q.Keys.Processing}, leases...))
	values, _ := reply.([]any)
	if err != nil || len(values) != len(leases) {
		return nil, nil, err
	}
	for i, value := range values {
		if size, _ := value.(int64); size > 0 {
			dead, sizes = append(dead, leases[i]), append(sizes, size)
		}
	}
	return dead, sizes, nil
}

// Sweep ends those of the leases that have died, as many as one call may: their tasks go back to the head of the queue, or, at the
// limit-th loss, to the dead letters. pass is a token of one walk over the queue.
func (q *Queue) Sweep(ctx context.Context, leases []string, limit int, pass, sweeper string) (Swept, error) {
	k := q.Keys
	dead, sizes, err := q.Gone(ctx, leases)
	if err != nil || len(dead) == 0 {
		return Swept{}, err
	}
	count := 0
	for left := int64(sweptBytes); count < min(len(dead), sweptAtOnce) && left >= 0; count++ {
		left -= sizes[count]
	}
	reply, err := q.caller.call(ctx, append([]string{"HMGET", k.Processing}, dead[:count]...)...)
	held, _ := reply.([]any)
	if err != nil || len(held) != count {
		return Swept{}, err
	}
	keys, args := append(k.home(), k.Lost, k.Dead, k.Stats, k.Bucket), []string{strconv.Itoa(limit), pass, sweeper, ""}
	for i, name := range dead[:count] {
		_, headers, _ := glance(bulk(held[i]))
		h, running := holdsOf(headers), ""
		if h.Mode == WhileRunning {
			running = "running"
		}
		word, own := k.several(h)
		keys = append(append(keys, name), own...)
		args = append(args, word, milliseconds(newJob(q, call{headers: headers}).keeps()), running)
	}
	n, err := q.numbers(ctx, "sweep", keys, args...)
	return Swept{Recovered: n[0], Buried: n[1], More: n[2] != 0 || count < len(dead)}, err
}

// Repair brings the notifications nearer to one for each waiting task. It returns how many were added, removed, and are left for
// another call.
func (q *Queue) Repair(ctx context.Context) (added, removed, left int, err error) {
	n, err := q.numbers(ctx, "repair", []string{q.Keys.Queue, q.Keys.Noti}, strconv.Itoa(repairStep))
	return n[0], n[1], n[2], err
}

// Prune strikes workers whose own lease has died off the register. It returns how many.
func (q *Queue) Prune(ctx context.Context, leases []string) (int, error) {
	return q.count(ctx, "prune", append([]string{q.Keys.Workers}, leases...))
}

// DeadRetry moves dead letters, as they came, to the end of the queue. It returns how many were there.
func (q *Queue) DeadRetry(ctx context.Context, ids []string) (int, error) {
	return q.count(ctx, "dead_retry", []string{q.Keys.Queue, q.Keys.Noti, q.Keys.Dead, q.Keys.Deferred}, ids...)
}

func (q *Queue) numbers(ctx context.Context, name string, keys []string, args ...string) ([4]int, error) {
	var numbers [4]int
	reply, err := q.run(ctx, name, keys, args...)
	values, _ := reply.([]any)
	for i, value := range values[:min(len(numbers), len(values))] {
		n, _ := value.(int64)
		numbers[i] = int(n)
	}
	return numbers, err
}

// bulk is a bulk string, as bytes, whichever connection it came over.
func bulk(value any) []byte {
	switch value := value.(type) {
	case []byte:
		return value
	case string:
		return []byte(value)
	}
	return nil
}

// milliseconds is a duration in the whole milliseconds that Redis takes; never less than one.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Round(time.Millisecond).Milliseconds()), 10)
}
