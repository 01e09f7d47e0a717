package delayed

import (
	"errors"
	"os"
	"time"

	"github.com/delayedq/delayed/interop/internal/lease"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

// roomFor is how many tasks more the worker would like to have.
func (w *Worker) roomFor(pool *lease.Pool) int {
	return len(w.slots) + w.ahead(pool) - int(w.inFlight())
}

// awaitRoom waits until no more than low tasks are in the buffer or run.
func (w *Worker) awaitRoom(low int64) {
	w.low.Store(low)
	for w.inFlight() > low && !w.stopped() && !w.broken.Load() {
		select {
		case <-w.room:
		case <-w.stopping:
		}
	}
}

// wait waits for a notification, and says which queue it is from. Nil after the time that an idle worker waits, or if it was woken.
func (f *fetcher) wait(pop []byte, timeout time.Duration) (*lease.Pool, error) {
	if !f.block(time.Now().Add(timeout + late)) {
		return nil, nil
	}
	reply, err := f.conn.Block(pop)
	f.unblock()
	if errors.Is(err, os.ErrDeadlineExceeded) && (f.stopped() || f.broken.Load()) {
		f.woken = true
		f.broken.Store(true) // the reply may still come; the connection is of no use any more
		return nil, nil
	}
	values, ok := reply.([]any)
	if err != nil || !ok || len(values) != 2 {
		return nil, err
	}
	for _, pool := range f.pools {
		if pool.Store.Keys.Noti == string(rdb.Bulk(values[0])) {
			return pool, nil
		}
	}
	return nil, nil
}

func (f *fetcher) block(until time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped() || f.broken.Load() {
		return false
	}
	f.blocking = true
	return f.conn.SetDeadline(until) == nil
}

func (f *fetcher) unblock() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blocking = false
}

// wakeFetcher ends the blocking pop of the fetcher, and whatever else it waits for.
func (f *fetcher) wakeFetcher() {
	f.mu.Lock()
	if f.blocking {
		f.conn.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // then it is closed already
	}
	f.mu.Unlock()
	f.signalRoom()
}

func (w *Worker) signalRoom() {
	select {
	case w.room <- struct{}{}:
	default:
	}
}
