package delayed

import (
	"context"
	"time"
)

// finish gives back what has not begun, and waits for what runs; false if it has to be given back too.
func (w *Worker) finish() bool {
	w.giveBackUnbegun()
	grace := time.NewTimer(w.grace)
	defer grace.Stop()
	w.low.Store(0)
	for w.inFlight() > 0 && !w.forced.Load() {
		select {
		case <-w.room:
		case <-grace.C:
			w.log.Warn("the grace is over", "grace", w.grace)
			return false
		case <-w.now:
			w.log.Warn("leaving now, as asked")
			return false
		}
	}
	return !w.forced.Load()
}

// goodbye gives back all that is held, and removes every trace of the worker.
func (w *Worker) goodbye() {
	w.endOverdue()
	err := w.giveBackAll()
	w.acks.Close()
	if w.fetcher.conn != nil {
		w.fetcher.conn.Close()
	}
	if err != nil {
		w.log.Error("left without giving back what was held; a sweeper will", "error", err)
	}
}

func (w *Worker) giveBackAll() (failure error) {
	defer catchFault(&failure)
	if w.fetcher.conn == nil || w.broken.Load() {
		if err := w.open(); err != nil {
			return err
		}
	}
	err := w.acks.Settle()
	for _, pool := range w.pools {
		names, tasks, begun := pool.Held()
		own := pool.Store.Keys.Own(w.name)
		store := pool.Store.Over(w.fetcher.conn)
		if len(names) > 0 && err == nil {
			var count int
			if count, err = store.GiveBack(context.Background(), names, tasks, begun); count > 0 {
				w.log.Info("gave back tasks", "queue", store.Keys.Queue, "tasks", count)
			}
		}
		if err == nil {
			_, err = w.fetcher.conn.Call(context.Background(), append(append([]string{"UNLINK", own}, names...), pool.Ruined...)...)
		}
		if err == nil {
			_, err = w.fetcher.conn.Call(context.Background(), "HDEL", store.Keys.Workers, own)
		}
		if err == nil && w.fetcher.woken {
			_, _, _, err = store.Repair(context.Background())
		}
	}
	if err == nil {
		err = w.sendCounts(context.Background(), w.fetcher.conn)
	}
	return err
}
