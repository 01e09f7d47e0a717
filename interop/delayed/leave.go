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
	w.cutOverdue()
	err := w.part()
	w.ends.close()
	if w.takes != nil {
		w.takes.Close()
	}
	if err != nil {
		w.log.Error("left without giving back what was held; a sweeper will", "error", err)
	}
}

func (w *Worker) part() (failure error) {
	defer catchFault(&failure)
	if w.takes == nil || w.broken.Load() {
		if err := w.open(); err != nil {
			return err
		}
	}
	err := w.ends.settle()
	for _, b := range w.books {
		names, tasks, begun := b.held()
		own := b.store.Keys.Own(w.name)
		store := b.store.over(w.takes)
		if len(names) > 0 && err == nil {
			var count int
			if count, err = store.GiveBack(context.Background(), names, tasks, begun); count > 0 {
				w.log.Info("gave back tasks", "queue", store.Keys.Queue, "tasks", count)
			}
		}
		if err == nil {
			_, err = w.takes.call(context.Background(), append(append([]string{"UNLINK", own}, names...), b.ruined...)...)
		}
		if err == nil {
			_, err = w.takes.call(context.Background(), "HDEL", store.Keys.Workers, own)
		}
		if err == nil && w.woken {
			_, _, _, err = store.Repair(context.Background())
		}
	}
	return err
}
