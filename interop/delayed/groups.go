package delayed

import (
	"context"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// feedGroups lets groups take turns where there are any.
func (w *Worker) feedGroups() error {
	for _, pool := range w.pools {
		if !pool.Gate.Grouped.Load() {
			continue
		}
		more, err := pool.Store.Over(w.fetchConn).Feed(context.Background(), min(rdb.BatchesReady*(len(w.slots)+w.ahead(pool)), rdb.MostReady))
		if err != nil {
			return err
		}
		if !more {
			pool.Gate.Grouped.Store(false)
		}
	}
	return nil
}
