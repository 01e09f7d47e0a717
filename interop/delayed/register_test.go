package delayed

import (
	"errors"
	"testing"

	"github.com/delayedq/delayed/interop/internal/rdb"
)

func TestWorkersAndSweepersRegisterTheirQueues(t *testing.T) {
	for name, begin := range map[string]func(*testing.T, *Queue){
		"worker":  func(t *testing.T, queue *Queue) { start(t, queue, nil) },
		"sweeper": func(t *testing.T, queue *Queue) { sweeping(t, queue) },
	} {
		t.Run(name, func(t *testing.T) {
			queue := newQueue(t)
			if _, err := queue.store.Client.ZScore(ctx, rdb.Register, queue.Name()).Result(); err == nil {
				t.Fatal("it is there before anybody serves it")
			}
			begin(t, queue)
			eventually(t, "it is there", func() bool {
				return queue.store.Client.ZScore(ctx, rdb.Register, queue.Name()).Val() > 0
			})
		})
	}
}

func TestNoQueueHasTheNameOfTheRegister(t *testing.T) {
	for _, name := range []string{rdb.Register, rdb.Register + ":{app}"} {
		if _, err := rdb.NewKeys(name); !errors.Is(err, ErrConfiguration) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
