package delayed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/connect"
	"github.com/redis/go-redis/v9"
)

const (
	lookAtAll  = 3 * time.Second        // between two looks at all results that are waited for
	lookOften  = 100 * time.Millisecond // between them if Redis does not say what has changed
	waitLinger = 10 * time.Second       // that a waiter keeps its connection for the next wait
	sayAway    = 10 * time.Second       // between two lines about a Redis that is away
	nodePause  = 200 * time.Microsecond // for each node between two questions to workflows: marks may change very often
)

// waiter lets any number of goroutines wait for results over one connection. The state of each task is read, and Redis (told by CLIENT
// TRACKING) says when it changes: so a wait takes no connection, and nobody polls. Now and then each is read again, in case a message
// was lost. There is one for each client, and on a cluster for each queue, while it is needed.
type waiter struct {
	client redis.UniversalClient
	key    string // any of the queues'
	self   waiterKey

	mu      sync.Mutex
	waiting map[string]map[*wait]struct{} // by the key of the state
	trouble error                         // why Redis cannot be asked now
	poked   chan struct{}                 // it has something to send
	outbox  []byte                        // likewise, if there is a connection
	replies []func(any) error             // who gets those that are to come
	heard   time.Time                     // since when they are due
	between time.Duration                 // two looks
	open    bool
	marked  map[string]map[string]struct{} // keys of marks → those of the tasks for which their workflow was asked
	later   map[string]struct{}            // keys of tasks about which is asked again, …
	laterAt time.Time                      // … and when
}

type waiterKey struct {
	client redis.UniversalClient
	queue  string // on a cluster
}

var waiters struct {
	sync.Mutex
	running map[waiterKey]*waiter
}

// wait is one who waits.
type wait struct {
	key      string     // of the task's state
	node     *nodePlace // which the task may be
	answered chan answer
}

// answer is a result as it stands in Redis, or why there will be none.
type answer struct {
	data []byte
	err  error
}

// await waits for a result until ctx ends: then the error is that of ctx, and trouble says why Redis could not be asked.
func (q *Queue) await(ctx context.Context, id string) (data []byte, trouble, err error) {
	one := &wait{q.store.Keys.Task(id), q.nodePlace(id), make(chan answer, 1)}
	w := q.waiter(one)
	defer w.drop(one)
	select {
	case found := <-one.answered:
		return found.data, nil, found.err
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		return nil, w.trouble, ctx.Err()
	}
}

// waiter is the one of the queue's client, which knows of the wait.
func (q *Queue) waiter(first *wait) *waiter {
	self := waiterKey{client: q.store.Client}
	if _, clustered := q.store.Client.(*redis.ClusterClient); clustered {
		self.queue = q.Name()
	}
	waiters.Lock()
	defer waiters.Unlock()
	w, found := waiters.running[self]
	if !found {
		w = &waiter{client: q.store.Client, key: q.store.Keys.Queue, self: self, poked: make(chan struct{}, 1), waiting: map[string]map[*wait]struct{}{}}
		if waiters.running == nil {
			waiters.running = map[waiterKey]*waiter{}
		}
		waiters.running[self] = w
		defer func() { go w.run() }()
	}
	w.add(first)
	return w
}

func (w *waiter) add(one *wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[one.key] == nil {
		w.waiting[one.key] = map[*wait]struct{}{}
	}
	w.waiting[one.key][one] = struct{}{}
	if w.open {
		w.ask(one.key)
	}
	signal(w.poked)
}

func (w *waiter) drop(one *wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.waiting[one.key], one); len(w.waiting[one.key]) == 0 {
		delete(w.waiting, one.key)
	}
}

// run serves until nobody has waited for a while.
func (w *waiter) run() {
	var said time.Time
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := w.serve()
		if w.over(err) {
			return
		}
		if time.Since(began) > time.Second {
			attempt = 0
		}
		if time.Since(said) > sayAway {
			slog.Warn("delayed: waiting for results: trying again", "error", err)
			said = time.Now()
		}
		time.Sleep(min(50*time.Millisecond<<min(attempt, 5), time.Second))
	}
}

// over ends the waiter if nobody waits, or what ended its connection would do so again.
func (w *waiter) over(err error) bool {
	waiters.Lock()
	defer waiters.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open, w.trouble = false, err
	if connect.Refused(err) || errors.Is(err, redis.ErrClosed) || errors.Is(err, ErrConfiguration) {
		for key := range w.waiting {
			w.answer(key, answer{err: err})
		}
	}
	if len(w.waiting) > 0 {
		return false
	}
	delete(waiters.running, w.self)
	return true
}

// serve uses one connection, until it breaks or nobody has waited for a while.
func (w *waiter) serve() error {
	c, err := conn.DialBare(context.Background(), w.client, w.key)
	if err != nil {
		return err
	}
	defer c.Close()
	arrived, done := make(chan any), make(chan struct{})
	defer close(done)
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	go receive(c, arrived, done)
	w.opened()
	for {
		w.mu.Lock()
		out, pause := w.outbox, w.pause()
		w.outbox = nil
		w.mu.Unlock()
		if len(out) > 0 {
			if err := c.SetWriteDeadline(time.Now().Add(conn.Deadline)); err != nil {
				return err
			}
			if _, err := c.Write(out); err != nil {
				return err
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-w.poked:
		case reply := <-arrived:
			if err := w.received(reply); err != nil {
				return err
			}
		case <-timer.C:
			if idle, err := w.checkSilence(); idle || err != nil {
				return err
			}
		}
		timer.Stop()
	}
}

// receive hands on what arrives, at last the error that ends it.
func receive(c *conn.Conn, arrived chan<- any, done <-chan struct{}) {
	for {
		reply, err := c.Read()
		if err != nil {
			reply = err
		}
		select {
		case arrived <- reply:
		case <-done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (w *waiter) opened() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open, w.outbox, w.replies, w.between = true, nil, nil, lookOften
	w.marked, w.later = map[string]map[string]struct{}{}, map[string]struct{}{}
	w.expect(func(any) error { return nil }, "HELLO", "3")
	w.expect(func(reply any) error {
		if _, refusal := reply.(conn.ReplyError); !refusal {
			w.between = lookAtAll
		}
		return nil
	}, "CLIENT", "TRACKING", "ON")
	w.askAll()
}

// pause is the time until a look is due.
func (w *waiter) pause() time.Duration {
	if len(w.later) > 0 {
		return max(time.Until(w.laterAt), 0)
	}
	switch {
	case len(w.replies) > 0:
		return max(time.Until(w.heard.Add(conn.Deadline)), 0)
	case len(w.waiting) == 0:
		return waitLinger
	}
	return w.between
}

// checkSilence is called when nothing has arrived for so long. It says whether nobody waits.
func (w *waiter) checkSilence() (idle bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.later) > 0 {
		for key := range w.later {
			if len(w.waiting[key]) > 0 {
				w.ask(key)
			}
		}
		clear(w.later)
		return false, nil
	}
	if len(w.replies) > 0 {
		return false, fmt.Errorf("delayed: Redis has not answered for %s", conn.Deadline)
	}
	w.askAll()
	return len(w.waiting) == 0, nil
}

func (w *waiter) askAll() {
	for key := range w.waiting {
		w.ask(key)
	}
}

func (w *waiter) ask(key string) {
	w.expect(func(reply any) error { return w.found(key, reply) }, append([]string{"HMGET", key}, outcome...)...)
}
