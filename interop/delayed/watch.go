package delayed

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/redis/go-redis/v9"
)

const (
	watchedEntries = 100                    // of a queue in one read
	watchWait      = 500 * time.Millisecond // that one read waits
	watchRegister  = time.Second            // between two looks at the registers, and at the totals
	watchedTotals  = 100                    // queues whose totals are looked at; of more, each has its turn
	atBeginning    = "0-0"                  // what is before the first entry of a history
)

// HistoryEvent is one thing that has happened to a task, as the history of its queue tells it. What is not known is zero.
type HistoryEvent struct {
	Time    time.Time // of a success without an id about when
	Outcome string    // see docs/protocol.md, section 7h
	Task    string    // the path of its function
	ID      string
	Attempt int
	Waited  time.Duration // between its enqueue and its beginning
	Ran     time.Duration
	Said    string // the error, in one line
	By      string // host:pid
}

// Watched is something that has happened in a queue.
type Watched struct {
	// Kind is task; stats, of a queue; came, went or lost, of a worker or sweeper; or gap: events may be missing, as they were removed
	// before they were read.
	Kind    string
	Queue   string
	Time    time.Time
	Event   HistoryEvent // of a task; of a worker that its supervisor has lost, why
	Place   string       // host:pid
	Process string       // worker or sweeper
	Stats   Sums         // of a queue, if they are others than before
}

// Watch tells of what happens in queues of one server or cluster from now on, until ctx is done, whose cause it returns, or Redis fails.
// Tasks are told of as the history of their queue keeps them: by default those that do not succeed. What no history keeps, such as an
// enqueue, shows in stats: the totals of a queue, at most once a second, if they have changed.
func Watch(ctx context.Context, queues []*Queue, tell func(Watched)) error {
	if len(queues) == 0 {
		return nil
	}
	w := newWatch(tell)
	for _, queue := range queues {
		if err := w.follow(ctx, queue); err != nil {
			return err
		}
	}
	for next := time.Now().Add(watchRegister); ; {
		if err := w.read(ctx, queues); err != nil {
			return err
		}
		if time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(watchRegister)
		for _, queue := range queues {
			if err := w.changes(ctx, queue); err != nil {
				return err
			}
		}
		if err := w.totals(ctx, queues); err != nil {
			return err
		}
	}
}

type watch struct {
	tell    func(Watched)
	cursors map[string]string             // by key
	gone    map[string]int64              // entries that were no more when an empty history began to be followed, by key
	known   map[*Queue]map[string]Watched // processes, by own lease
	stats   map[*Queue]Sums               // as they were told last
	turn    int                           // of the queue whose totals are next
}

func newWatch(tell func(Watched)) *watch {
	return &watch{tell: tell, cursors: map[string]string{}, gone: map[string]int64{}, known: map[*Queue]map[string]Watched{},
		stats: map[*Queue]Sums{}}
}

// follow begins behind the newest entry.
func (w *watch) follow(ctx context.Context, queue *Queue) error {
	key := queue.store.Keys.History
	newest, err := queue.store.Client.XRevRangeN(ctx, key, "+", "-", 1).Result()
	if err != nil {
		return err
	}
	if len(newest) > 0 {
		w.cursors[key] = newest[0].ID
	} else {
		w.cursors[key] = atBeginning
		w.gone[key], err = removedFrom(ctx, queue)
	}
	if err != nil {
		return err
	}
	w.known[queue], err = processesOf(ctx, queue)
	return err
}

// read tells of what is new in histories, and waits for something if nothing is. A cluster has no command that waits for all of them.
func (w *watch) read(ctx context.Context, queues []*Queue) error {
	if _, clustered := queues[0].store.Client.(*redis.ClusterClient); clustered {
		some := false
		for i := range queues {
			found, err := w.page(ctx, queues[i:i+1], -1)
			if err != nil {
				return err
			}
			some = some || found
		}
		if some {
			return nil
		}
		queues = queues[:1]
	}
	_, err := w.page(ctx, queues, watchWait)
	return err
}

// page reads once, and reports whether there was something; it does not wait if wait is negative.
func (w *watch) page(ctx context.Context, queues []*Queue, wait time.Duration) (bool, error) {
	streams := make([]string, 2*len(queues))
	for i, queue := range queues {
		streams[i], streams[len(queues)+i] = queue.store.Keys.History, w.cursors[queue.store.Keys.History]
	}
	found, err := queues[0].store.Client.XRead(ctx, &redis.XReadArgs{Streams: streams, Count: watchedEntries, Block: wait}).Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	} else if err != nil {
		return false, errors.Join(context.Cause(ctx), err)
	}
	for _, stream := range found {
		for _, queue := range queues {
			if queue.store.Keys.History == stream.Stream {
				err = errors.Join(err, w.told(ctx, queue, stream.Messages))
			}
		}
	}
	return len(found) > 0, err
}

// told tells of entries of a history.
func (w *watch) told(ctx context.Context, queue *Queue, entries []redis.XMessage) error {
	key := queue.store.Keys.History
	missed, err := w.missed(ctx, queue, entries[0].ID)
	if err != nil {
		return err
	}
	if missed {
		w.tell(Watched{Kind: "gap", Queue: queue.Name(), Time: time.Now()})
	}
	for _, entry := range entries {
		w.cursors[key] = entry.ID
		batch, _ := entry.Values["batch"].(string)
		for _, event := range eventsIn(entry.ID, batch) {
			seen := Watched{Kind: "task", Queue: queue.Name(), Time: event.Time, Event: event, Place: event.By}
			if event.Outcome == "died" {
				seen.Kind, seen.Process = "lost", "worker"
			}
			w.tell(seen)
		}
	}
	return nil
}

// missed reports whether entries may have been removed between the one that was read last and the first of a page.
func (w *watch) missed(ctx context.Context, queue *Queue, first string) (bool, error) {
	key := queue.store.Keys.History
	cursor := w.cursors[key]
	if cursor == atBeginning {
		removed, err := removedFrom(ctx, queue)
		return removed > w.gone[key], err
	}
	oldest, err := queue.store.Client.XRangeN(ctx, key, "-", "+", 1).Result()
	return len(oldest) > 0 && earlier(cursor, oldest[0].ID) && !earlier(first, oldest[0].ID), err // what was read last is gone
}

// removedFrom is how many entries of a history are there no more; 0 before Redis 7, which does not say.
func removedFrom(ctx context.Context, queue *Queue) (int64, error) {
	about, err := queue.store.Client.XInfoStream(ctx, queue.store.Keys.History).Result()
	if err != nil {
		if strings.Contains(err.Error(), "no such key") {
			return 0, nil
		}
		return 0, err
	}
	return max(0, about.EntriesAdded-about.Length), nil
}

// earlier reports whether one id of an entry comes before another.
func earlier(a, b string) bool {
	x, m, _ := strings.Cut(a, "-")
	y, n, _ := strings.Cut(b, "-")
	if len(x) != len(y) || x != y {
		return len(x) < len(y) || len(x) == len(y) && x < y
	}
	return len(m) < len(n) || len(m) == len(n) && m < n
}

// changes tells who has come or gone.
func (w *watch) changes(ctx context.Context, queue *Queue) error {
	found, err := processesOf(ctx, queue)
	if err != nil {
		return err
	}
	for lease, process := range found {
		if _, known := w.known[queue][lease]; !known {
			process.Kind, process.Time = "came", time.Now()
			w.tell(process)
		}
	}
	for lease, process := range w.known[queue] {
		if _, lives := found[lease]; lives {
			continue
		}
		process.Kind, process.Time = "went", time.Now()
		if left, err := queue.store.Client.HExists(ctx, queue.store.Keys.Workers, lease).Result(); err != nil {
			return err
		} else if left { // one that stops strikes itself off
			process.Kind = "lost"
		}
		w.tell(process)
	}
	w.known[queue] = found
	return nil
}

// totals tells the totals that are others than before, of the queues whose turn it is.
func (w *watch) totals(ctx context.Context, queues []*Queue) error {
	for range min(len(queues), watchedTotals) {
		queue := queues[w.turn%len(queues)]
		w.turn++
		found, known, err := queue.sums(ctx)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if before, told := w.stats[queue]; known && (!told || before != found) {
			w.stats[queue] = found
			w.tell(Watched{Kind: "stats", Queue: queue.Name(), Time: time.Now(), Stats: found})
		}
	}
	return nil
}

// processesOf are the living workers and sweepers of a queue, by their own lease.
func processesOf(ctx context.Context, queue *Queue) (map[string]Watched, error) {
	const page, most = 100, 2000
	found := map[string]Watched{}
	s, cursor, seen := queue.store, "0", 0
	for first := true; (first || cursor != "0") && seen < most; first = false {
		next, leases, err := s.Page(ctx, s.Keys.Workers, cursor, page)
		if err != nil {
			return nil, err
		}
		cursor, seen = next, seen+len(leases)
		for _, lease := range leases {
			alive, err := s.Alive(ctx, []string{lease})
			if err != nil {
				return nil, err
			}
			about, err := s.Client.HGet(ctx, s.Keys.Workers, lease).Result()
			if alive == 0 || errors.Is(err, redis.Nil) {
				continue
			} else if err != nil {
				return nil, err
			}
			value, _ := wire.NewDecoder([]byte(about)).Anything() //nolint:errcheck // what another program wrote says nothing
			said, _ := value.(map[string]any)
			found[lease] = Watched{Queue: queue.Name(), Place: text(said["place"]), Process: text(said["kind"])}
		}
	}
	return found, nil
}

// eventsIn are the events of an entry; what another program has written says nothing.
func eventsIn(id, batch string) []HistoryEvent {
	value, err := wire.NewDecoder([]byte(batch)).Anything()
	parts, _ := value.([]any)
	if err != nil || len(parts) < 3 {
		return nil
	}
	var found []HistoryEvent
	milliseconds, _, _ := strings.Cut(id, "-")
	written, _ := strconv.ParseInt(milliseconds, 10, 64) //nolint:errcheck // Redis made it
	listed, _ := parts[2].([]any)
	for _, each := range listed {
		event, _ := each.([]any)
		if len(event) != 8 {
			continue
		}
		known := func(i int) int64 { return max(0, int64(number(event[i]))) }
		found = append(found, HistoryEvent{
			Time: time.UnixMilli(known(0)), Outcome: text(event[1]), Task: text(event[2]), ID: text(event[3]), Attempt: int(known(4)),
			Waited: time.Duration(known(5)) * time.Millisecond, Ran: time.Duration(known(6)) * time.Microsecond, Said: text(event[7]),
			By: text(parts[0]),
		})
	}
	plain, _ := parts[1].(map[string]any)
	for path, times := range plain {
		each, _ := times.([]any)
		for _, ran := range each {
			found = append(found, HistoryEvent{
				Time: time.UnixMilli(written), Outcome: "succeeded", Task: path, Ran: time.Duration(number(ran)) * time.Microsecond, By: text(parts[0]),
			})
		}
	}
	return found
}
