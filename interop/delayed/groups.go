package delayed

import (
	"context"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

// feedGroups lets groups take turns where there are any.
func (f *fetcher) feedGroups() error {
	for _, pool := range f.pools {
		if !pool.Gate.Grouped.Load() {
			continue
		}
		more, err := pool.Store.Over(f.conn).Feed(context.Background(), min(rdb.BatchesReady*(len(f.slots)+f.ahead(pool)), rdb.MostReady))
		if err != nil {
			return err
		}
		if !more {
			pool.Gate.Grouped.Store(false)
		}
	}
	return nil
}
