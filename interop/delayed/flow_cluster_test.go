package delayed

import (
	"context"
	"strings"
	"testing"
)

// Queues of other slots, as scripts cannot touch the keys of both.
func TestANodeInAnotherSlotTellsItsWorkflowByItsOwnOutbox(t *testing.T) {
	ctx := context.Background()
	client := clusterOfOne(t)
	home, err := NewQueue("{home}", client)
	must(t, err)
	far, err := NewQueue("{far}", client)
	must(t, err)
	sweeper, err := NewSweeper([]*Queue{home, far}, SweeperNoSignals())
	must(t, err)
	members := GroupOf(task("f.Number", 1), On(far.Name(), task("f.Number", 2)), On(far.Name(), ChainOf(task("f.Number", 3), task("f.Add", 4))))
	run, err := home.SubmitFlow(ctx, ChainOf(members, task("f.Sum")))
	must(t, err)
	must(t, flowWorker(t, home).Run(ctx))
	must(t, flowWorker(t, far).Run(ctx))
	outbox, err := client.LRange(ctx, far.store.Keys.FlowOutbox, 0, -1).Result()
	must(t, err)
	if len(outbox) != 2 || !strings.HasPrefix(outbox[0], "@") {
		t.Errorf("%q", outbox)
	}
	must(t, client.RPush(ctx, far.store.Keys.FlowOutbox, outbox[0], outbox[1], "@\xc1", "nothing").Err()) // twice does no harm
	finish := func() State {
		for status := (FlowStatus{}); status.Ended.IsZero(); {
			must(t, sweeper.Sweep(ctx))
			must(t, flowWorker(t, far).Run(ctx))
			must(t, flowWorker(t, home).Run(ctx))
			status, err = run.Status(ctx)
			must(t, err)
		}
		return ended(t, run, nil)
	}
	sum := 0
	if state := finish(); state != StateSucceeded {
		t.Error(state)
	}
	must(t, run.Result(ctx, &sum))
	left, err := client.LLen(ctx, far.store.Keys.FlowOutbox).Result()
	must(t, err)
	if sum != 10 || left != 0 {
		t.Error(sum, left)
	}

	run, err = home.SubmitFlow(ctx, ChainOf(On(far.Name(), task("f.Fail", 2)), task("f.Sum")))
	must(t, err)
	if state := finish(); state != StateFailed {
		t.Error(state)
	}
	if left, err := run.Retry(ctx, RetryFailed); left != 2 || err != nil {
		t.Error(left, err)
	}
	must(t, run.Cancel(ctx))
	if state := finish(); state != StateCancelled {
		t.Error(state)
	}
	if _, err := run.Retry(ctx, RetryAll); err != nil {
		t.Error(err)
	}
	if n, err := far.Len(ctx); n != 1 || err != nil { // the one that was cancelled is gone from there
		t.Error(n, err)
	}
}
