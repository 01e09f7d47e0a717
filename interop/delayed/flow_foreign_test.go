package delayed

import (
	"context"
	"strings"
	"testing"
)

// Another program's data under the names of a workflow's keys: no task is held up, others go on, and submits say which key it is.
func TestForeignKeysOfWorkflowsHoldNobodyUp(t *testing.T) {
	ctx := context.Background()
	for _, suffix := range []string{"_flow_outbox", "_flow_ids", "_flow_due", "_flow_", "_flow_marks_", "_flow_joins_"} {
		queue := newQueue(t)
		client := queue.store.Client
		submit := func() (*Run, error) {
			return queue.SubmitFlow(ctx, GroupOf(task("f.Number", 1), task("f.Number", 2)).Then(task("f.Sum")))
		}
		run, err := submit()
		must(t, err)
		must(t, queue.Enqueue(ctx, task("f.Number", 3)))
		key, common := queue.Name()+suffix, !strings.HasSuffix(suffix, "_") && suffix != "_flow_"
		if !common {
			key += run.flow
		}
		must(t, client.Del(ctx, key).Err())
		must(t, client.SAdd(ctx, key, "another program's").Err())
		must(t, flowWorker(t, queue).Run(ctx))
		if held := client.HLen(ctx, queue.store.Keys.Processing).Val() + client.LLen(ctx, queue.Name()).Val(); held != 0 {
			t.Error(suffix, held)
		}
		other, err := submit()
		if common && (err == nil || !strings.Contains(err.Error(), "WRONGTYPE")) {
			t.Error(suffix, err)
		}
		if !common {
			must(t, err)
			must(t, flowWorker(t, queue).Run(ctx))
			if state := ended(t, other, nil); state != StateSucceeded {
				t.Error(suffix, state)
			}
		}
		sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
		must(t, err)
		if err := sweeper.Sweep(ctx); common && (err == nil || !strings.Contains(err.Error(), "carry on workflows")) {
			t.Error(suffix, err)
		}
	}
}

func TestAWorkflowThatCannotGoOnKeepsNoOtherFromIt(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	client := queue.store.Client
	var runs []*Run
	for range 4 {
		run, err := queue.SubmitFlow(ctx, ChainOf(task("f.Number", 1), task("f.Add", 2)))
		must(t, err)
		must(t, queue.store.TellFlow(ctx, run.flow, "e0 0 s")) // as a worker that was killed before it carried that on
		runs = append(runs, run)
	}
	must(t, client.Del(ctx, queue.store.Keys.Marks(runs[0].flow)).Err())
	must(t, client.SAdd(ctx, queue.store.Keys.Marks(runs[0].flow), "another program's").Err())
	must(t, client.LPush(ctx, queue.store.Keys.Joins(runs[1].flow), "R99999999999999999999 0").Err()) // nobody's
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
	must(t, err)
	if err := sweeper.Sweep(ctx); err == nil || !strings.Contains(err.Error(), "carry on workflows") {
		t.Error(err)
	}
	if n, err := queue.Len(ctx); n != 4+2 || err != nil {
		t.Error(n, err)
	}
}
