package delayed

import (
	"context"
	"strings"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

// leaseJudge says which leases are dead: those whose keys are gone.
type leaseJudge struct {
	suspects *suspects                   // where that may be doubted; nil to believe it
	look     func(context.Context) error // before that is believed: it may find reasons for doubt
}

// eachPage calls act with the dead leases of each page of those named in a hash. act checks them again.
func (j *leaseJudge) eachPage(ctx context.Context, queue *Queue, key string, act func([]string) error) error {
	_, clustered := queue.store.Client.(*redis.ClusterClient)
	for cursor := "0"; ; {
		next, leases, err := queue.store.Page(ctx, key, cursor, pageSize)
		if err != nil {
			return err
		}
		if clustered { // upstream's leases lie in other slots, where no script of the queue can look
			leases = within(leases, queue.store.Keys.Queue+rdb.LeasePart)
		}
		dead, err := gone(ctx, queue, leases)
		if err == nil && len(dead) > 0 && j.suspects != nil {
			if err = j.look(ctx); err == nil {
				dead = j.suspects.dead(key, dead)
			}
		}
		if err == nil && len(dead) > 0 {
			err = act(dead)
		}
		if err != nil {
			return err
		}
		if next == "0" {
			if j.suspects != nil {
				j.suspects.looked(key)
			}
			return nil
		}
		cursor = next
	}
}

// gone are those of the leases whose keys are. (A key of another type than a string has no value either: the scripts see that it lives.)
func gone(ctx context.Context, queue *Queue, leases []string) ([]string, error) {
	alive, err := queue.store.Alive(ctx, leases)
	if err != nil || alive == len(leases) {
		return nil, err
	}
	reply, err := queue.store.Caller.Call(ctx, append([]string{"MGET"}, leases...)...)
	holders, _ := reply.([]any)
	var found []string
	for i, holder := range holders[:min(len(holders), len(leases))] {
		if holder == nil {
			found = append(found, leases[i])
		}
	}
	return found, err
}

func within(leases []string, prefix string) []string {
	own := leases[:0]
	for _, lease := range leases {
		if strings.HasPrefix(lease, prefix) {
			own = append(own, lease)
		}
	}
	return own
}
