package delayed

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

const (
	inMemory          = "memory"
	durabilityTimeout = 3 * time.Second // `appendfsync everysec` takes up to two of them
	whatNow           = "the task is on the primary and may run, so enqueue it again only if twice is all right; see that Redis is as " +
		"docs/operations.md says, or give it more time with DurabilityTimeout"
)

// ErrNotDurable is what a *NotDurable wraps.
var ErrNotDurable = errors.New("delayed: not durable")

// NotDurable says that a task was enqueued and may run, but is not where Durability wants it to be.
type NotDurable struct {
	Acknowledged int // replicas that have it; 0 where it is not about replicas
	detail       string
}

func (n *NotDurable) Error() string { return ErrNotDurable.Error() + ": " + n.detail + "; " + whatNow }

// Unwrap makes it ErrNotDurable.
func (n *NotDurable) Unwrap() error { return ErrNotDurable }

// Durability says what an enqueue waits for: "memory" (the default) for nothing, "aof" for the disk of the primary (WAITAOF, or, before
// Redis 7.2, `appendfsync always`), "replicas:N" for N replicas (WAIT). If that does not come in time, the error is a *NotDurable.
func Durability(text string) QueueOption { return func(q *Queue) { q.durability.text = text } }

// DurabilityTimeout says how long an enqueue waits for its durability at most: 3 s by default.
func DurabilityTimeout(d time.Duration) QueueOption {
	return func(q *Queue) { q.durability.timeout = d }
}

// durability is what an enqueue waits for. The proof goes out with the task, over the same connection and in the same round trip,
// because WAIT and WAITAOF speak of what their own connection wrote. Redis has carried out the enqueue by then: a proof that fails is
// reported, and undoes nothing.
type durability struct {
	text     string
	timeout  time.Duration
	replicas int
	aof      atomic.Pointer[[]string] // the proof by which this server shows that a write is on its disk; nil if it has not been asked
}

var (
	durabilities = regexp.MustCompile(`^(?:memory|aof|replicas:([1-9]\d{0,3}))$`)
	appendConfig = []string{"CONFIG", "GET", "append*"} // appendonly and appendfsync, in one pattern for the sake of Redis 6.2
)

// check reads what was given. The error wraps ErrConfiguration.
func (d *durability) check() error {
	match := durabilities.FindStringSubmatch(d.text)
	if match == nil {
		return fmt.Errorf("%w: Durability is 'memory', 'aof' or 'replicas:N' with N of at least 1, not %q", ErrConfiguration, d.text)
	}
	if d.timeout < time.Millisecond || d.timeout >= time.Hour {
		return fmt.Errorf("%w: DurabilityTimeout is at least a millisecond (and below an hour), not %s", ErrConfiguration, d.timeout)
	}
	d.replicas, _ = strconv.Atoi(match[1]) //nolint:errcheck // then it is 0
	return nil
}

// add runs a script that adds tasks, and sees that they are durable. If that goes wrong, the next one may meet another server, which is
// asked again.
func (d *durability) add(ctx context.Context, q *Queue, script []string) (any, error) {
	proof, err := d.proof(ctx, q)
	if err == nil {
		var replies []any
		if replies, err = q.store.Batch(ctx, d.timeout, script, proof); err == nil {
			if err = rdb.FailureIn(replies[0]); err == nil {
				err = d.judge(proof, replies[1])
			}
			if err == nil {
				return replies[0], nil
			}
		}
	}
	d.aof.Store(nil)
	return nil, err
}

// proof is the command that goes out with an enqueue.
func (d *durability) proof(ctx context.Context, q *Queue) ([]string, error) {
	wait := rdb.Milliseconds(d.timeout)
	if d.replicas > 0 {
		return []string{"WAIT", strconv.Itoa(d.replicas), wait}, nil
	}
	if known := d.aof.Load(); known != nil {
		return *known, nil
	}
	replies, err := q.store.Batch(ctx, d.timeout, []string{"WAITAOF", "1", "0", "1"}, appendConfig)
	if err != nil {
		return nil, err
	}
	proof, err := aofProof(replies[0], replies[1], wait)
	if err == nil {
		d.aof.Store(&proof)
	}
	return proof, err
}

// aofProof chooses by what WAITAOF and CONFIG GET say. The error wraps ErrConfiguration if this server cannot make anything durable, or
// does not say whether it does; or it is the server's, which is not a primary, or not now.
func aofProof(asked, settings any, wait string) ([]string, error) {
	refusal, closed := rdb.FailureIn(asked), rdb.FailureIn(settings)
	switch {
	case refusal == nil:
		return []string{"WAITAOF", "1", "0", wait}, nil
	case strings.Contains(refusal.Error(), "appendonly"):
		return nil, fmt.Errorf("%w: Durability(\"aof\") needs `appendonly yes` on the Redis server; it has no append-only file",
			ErrConfiguration)
	case !strings.Contains(refusal.Error(), "unknown command") && !strings.Contains(refusal.Error(), "permission"):
		return nil, refusal
	case closed != nil:
		return nil, fmt.Errorf("%w: Durability(\"aof\") needs WAITAOF (Redis 7.2), or to see with CONFIG GET that `appendfsync` is "+
			"`always`; this server says: %w; %w. Allow one of the commands, or use Durability(\"replicas:1\")",
			ErrConfiguration, refusal, closed)
	case !always(settings):
		return nil, fmt.Errorf("%w: Durability(\"aof\") needs WAITAOF (Redis 7.2), or `appendonly yes` with `appendfsync always` in "+
			"the configuration of an older server; this one has neither", ErrConfiguration)
	}
	return appendConfig, nil
}

// judge looks at the reply to the proof.
func (d *durability) judge(proof []string, reply any) error {
	if refusal := rdb.FailureIn(reply); refusal != nil {
		return &NotDurable{0, fmt.Sprintf("%s: Redis took the task and then said: %s", d.text, refusal)}
	}
	switch proof[0] {
	case "WAIT":
		if n, _ := reply.(int64); int(n) < d.replicas {
			return &NotDurable{int(n), fmt.Sprintf("%d of %d replicas had the task after %s", n, d.replicas, d.timeout)}
		}
	case "WAITAOF":
		counts, _ := reply.([]any)
		if len(counts) == 0 || counts[0] != int64(1) {
			return &NotDurable{0, fmt.Sprintf("the append-only file did not have the task after %s", d.timeout)}
		}
	default:
		if !always(reply) {
			return &NotDurable{0, "the server does not have `appendfsync always` any more"}
		}
	}
	return nil
}

// always reports whether CONFIG says that what was acknowledged is on the disk.
func always(settings any) bool {
	known := rdb.Fields(settings)
	return known["appendonly"] == "yes" && known["appendfsync"] == "always"
}
