package delayed

import (
	"context"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// feedGroups lets groups take turns where there are any.
func (w *Worker) feedGroups() error {
	for _, b := range w.pools {
		if !b.Gate.Grouped.Load() {
			continue
		}
		more, err := b.Store.Over(w.fetchConn).Feed(context.Background(), min(rdb.BatchesReady*(len(w.slots)+w.ahead(b)), rdb.MostReady))
		if err != nil {
			return err
		}
		if !more {
			b.Gate.Grouped.Store(false)
		}
	}
	return nil
}
