package delayed

import (
	"context"
)

// feed lets groups take turns where there are any.
func (w *Worker) feed() error {
	for _, b := range w.books {
		if !b.gate.grouped.Load() {
			continue
		}
		more, err := b.store.over(w.takes).feed(context.Background(), min(batchesReady*(len(w.slots)+w.ahead(b)), mostReady))
		if err != nil {
			return err
		}
		if !more {
			b.gate.grouped.Store(false)
		}
	}
	return nil
}
