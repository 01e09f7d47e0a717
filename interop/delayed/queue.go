package delayed

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/delayedq/delayed/interop/internal/clock"
	"github.com/delayedq/delayed/interop/internal/interest"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

const (
	maxTaskSize    = 1 << 20         // bytes
	dequeueTimeout = 2 * time.Second // that an idle worker waits for a notification before it looks for itself
	longestWait    = 7 * 24 * time.Hour
)

// Queue is a task queue on Redis: what producers and operators call. It is safe for use by many goroutines.
type Queue struct {
	store      *rdb.Store
	maxSize    int
	timeout    time.Duration
	durability *durability
	defined    *definitions
	clock      *clock.Server
	interests  *atomic.Pointer[interest.Table]
	around     func(context.Context, *Sending, func(context.Context) error) error // each enqueue; nil for nothing
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
	keys, err := rdb.NewKeys(name)
	if err != nil {
		return nil, err
	}
	q := &Queue{store: rdb.NewStore(keys, client), maxSize: maxTaskSize, timeout: dequeueTimeout,
		durability: &durability{text: inMemory, timeout: durabilityTimeout}, defined: &definitions{}, clock: &clock.Server{},
		interests: &atomic.Pointer[interest.Table]{}}
	q.interests.Store(interest.NewTable(nil))
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
	case q.timeout < 10*time.Millisecond || q.timeout > longestWait: // Redis takes less than a millisecond for ever
		return nil, fmt.Errorf("%w: DequeueTimeout is at least 10 ms, and a week at most, not %s", ErrConfiguration, q.timeout)
	case clustered && !rdb.SharesSlot(name):
		return nil, fmt.Errorf("%w: on Redis Cluster the keys of a queue must share a slot: call it %q instead of %q",
			ErrConfiguration, "{"+name+"}", name)
	}
	return q, nil
}

// Name is the queue's name.
func (q *Queue) Name() string { return q.store.Keys.Queue }

// over is the same queue with its commands sent through another caller, for example a worker's own connection.
func (q *Queue) over(c rdb.Caller) *Queue {
	other := *q
	other.store = q.store.Over(c)
	return &other
}

// serverTime is the server's time; it is asked once a minute at most. Who may not ask has to do with the clock of this machine.
func (q *Queue) serverTime(ctx context.Context) (time.Time, error) {
	if q.clock.Stale() {
		asked := time.Now()
		said, err := q.store.Now(ctx)
		var answered redis.Error
		if err != nil && !errors.As(err, &answered) {
			return q.clock.Now(), err
		}
		if err == nil {
			q.clock.Learn(time.UnixMilli(said), asked, time.Now())
		}
	}
	return q.clock.Now(), nil
}
