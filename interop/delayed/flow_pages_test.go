package delayed

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/delayedq/delayed/interop/internal/flow"
	"github.com/delayedq/delayed/interop/internal/rdb"
)

// large is a workflow of several pages: a group whose tasks are in a list, and more nodes than one page has.
func large(queue *Queue) *Flow {
	members := make([]Part, 1500)
	for i := range members {
		members[i] = task("f.Number", 1)
	}
	f := NewFlow(queue, "large")
	all := []Ref{f.Add(GroupOf(members...))}
	for range 1200 {
		all = append(all, f.Add(task("f.Number", 2)))
	}
	f.Add(task("f.Sum"), AfterNodes(all...))
	return f
}

func TestALargeWorkflowGoesInInPages(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	run, err := large(queue).Submit(ctx)
	must(t, err)
	runAll(t, queue)
	sum := 0
	if state := ended(t, run, &sum); state != StateSucceeded || sum != 1500+2*1200 {
		t.Error(state, sum)
	}
	count := 0
	for node, err := range run.Nodes(ctx, StateSucceeded) {
		must(t, err)
		if count++; node.Index != count-1 {
			t.Fatal(node)
		}
	}
	if count != 2701 {
		t.Error(count)
	}
}

func TestAThousandNodesAreCreatedByOneCall(t *testing.T) {
	for _, count := range []int{1000, 1001} {
		queue, calls := newQueue(t), 0
		tasks := make([]Part, count)
		for i := range tasks {
			tasks[i] = task("f.One")
		}
		f := NewFlow(queue, "")
		f.Add(ChainOf(tasks...))
		f.graph.Number()
		counting := flow.NewCarrier(queue.store, func(ctx context.Context, store *rdb.Store, name string, keys []string, args ...string) (any, error) {
			if name == "flow_build" {
				calls++
			}
			return store.Run(ctx, name, keys, args...)
		})
		must(t, counting.Store(t.Context(), flow.NewLayout(f.graph, queue.Name(), "flowCOUNTS", nil), []string{"policy", "stop", "keep", "60000"}))
		if (calls == 1) != (count == 1000) {
			t.Error(count, calls)
		}
	}
}

// dying is a queue whose process is killed when it has sent some pages.
func dying(queue *Queue, pages int) *flow.Carrier {
	return flow.NewCarrier(queue.store, func(ctx context.Context, store *rdb.Store, name string, keys []string, args ...string) (any, error) {
		if pages--; pages < 0 {
			return nil, errors.New("killed")
		}
		return store.Run(ctx, name, keys, args...)
	})
}

func TestOfABuilderThatIsKilledNothingIsLeft(t *testing.T) {
	ctx := context.Background()
	for pages := range 4 {
		queue := newQueue(t)
		f := large(queue)
		f.graph.Number()
		err := dying(queue, pages).Store(ctx, flow.NewLayout(f.graph, queue.Name(), "flowKILLED", nil), []string{"policy", "stop", "keep", "60000"})
		if err == nil {
			t.Fatal("it has fewer pages than that")
		}
		if n, err := queue.Len(ctx); n != 0 || err != nil { // nothing runs before the last one
			t.Error(pages, n, err)
		}
		run, err := queue.Run(rdb.NodeID("flowKILLED", -1))
		must(t, err)
		if status, err := run.Status(ctx); pages > 0 && (err != nil || status.State != StateBuilding) {
			t.Error(pages, status, err)
		}
		sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
		must(t, err)
		must(t, sweeper.Sweep(ctx))
		if status, err := run.Status(ctx); pages > 0 && err != nil {
			t.Error("its time is not over yet", pages, status, err)
		}
		must(t, queue.store.Client.ZIncrBy(ctx, queue.store.Keys.FlowDue, -3_600_000, "flowKILLED B").Err())
		must(t, sweeper.Sweep(ctx))
		keys, err := queue.store.Client.Keys(ctx, queue.Name()+"*flow*").Result()
		must(t, err)
		if len(keys) > 0 {
			t.Error(pages, keys)
		}
	}
}

func TestOfAWorkflowThatCannotBeSentNothingIsLeft(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	for range 2 { // its key is free again
		f := NewFlow(queue, "", FlowUnique("large"))
		f.Add(GroupOf(slicesOf(task("f.Number", 1), 3000)...))
		f.Add(task("f.Number", func() {}))
		if _, err := f.Submit(ctx); !errors.Is(err, ErrNotEncodable) {
			t.Error(err)
		}
		if keys := queue.store.Client.Keys(ctx, queue.Name()+"*").Val(); len(keys) > 0 {
			t.Error(keys)
		}
	}
}

func TestAWorkflowThatWasRemovedMeanwhileIsNotStarted(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := large(queue)
	f.graph.Number()
	pages := 0
	carrier := flow.NewCarrier(queue.store, func(ctx context.Context, store *rdb.Store, name string, keys []string, args ...string) (any, error) {
		if pages++; pages == 2 {
			must(t, store.Client.Del(ctx, keys[0]).Err())
		}
		return store.Run(ctx, name, keys, args...)
	})
	err := carrier.Store(ctx, flow.NewLayout(f.graph, queue.Name(), "flowGONE00", nil), []string{"policy", "stop", "keep", "60000"})
	if !errors.Is(err, flow.ErrTooSlow) {
		t.Error(err)
	}
}

// sleeper is how a queue reaches Redis whose process sleeps before it sends a page of a workflow.
type sleeper struct {
	rdb.Caller
	pages int // that it sends before
	sleep func()
}

func (s *sleeper) Call(ctx context.Context, args ...string) (any, error) {
	if len(args) > 5 && strings.Contains(args[3], "_flow_") && slices.Contains(args, "3600000") {
		if s.pages--; s.pages == -1 {
			s.sleep()
		}
	}
	return s.Caller.Call(ctx, args...)
}

func TestABuilderThatWasTooSlowAddsNothingToWhatAnotherHasBegunAnew(t *testing.T) {
	ctx := context.Background()
	submit := func(queue *Queue, number int, options ...FlowOption) (*Run, error) {
		f := NewFlow(queue, "", append(options, FlowUnique("large"))...)
		f.Add(task("f.Sum"), AfterNodes(f.Add(GroupOf(slicesOf(task("f.Number", number), 3000)...))))
		return f.Submit(ctx)
	}
	isOver := func(queue *Queue) {
		for _, timer := range queue.store.Client.ZRange(ctx, queue.store.Keys.FlowDue, 0, -1).Val() {
			must(t, queue.store.Client.ZIncrBy(ctx, queue.store.Keys.FlowDue, -3_600_000, timer).Err())
		}
		must(t, tend(ctx, queue))
	}
	for _, join := range []bool{false, true} {
		queue := newQueue(t)
		late := *queue
		var other *Run
		late.store = queue.store.Over(&sleeper{queue.store.Caller, 2, func() {
			isOver(queue)
			run, err := submit(queue, 1)
			must(t, err)
			other = run
		}})
		var options []FlowOption
		if join {
			options = append(options, FlowJoin())
		}
		if run, err := submit(&late, 2, options...); !errors.Is(err, flow.ErrTooSlow) {
			t.Error(run, err)
		}
		if run, err := submit(queue, 2, options...); join && (err != nil || run.ID != other.ID) || !join && !errors.Is(err, ErrDuplicate) {
			t.Error(run, err)
		}
		runAll(t, queue)
		sum := 0
		if state := ended(t, other, &sum); state != StateSucceeded || sum != 3000 {
			t.Error(state, sum)
		}

		late.store = queue.store.Over(&sleeper{queue.store.Caller, 2, func() { isOver(queue) }})
		must(t, queue.store.Client.ZAdd(ctx, queue.store.Keys.FlowIDs, redis.Z{Score: 1, Member: other.flow}).Err())
		must(t, tend(ctx, queue))
		if _, err := submit(&late, 2, options...); !errors.Is(err, flow.ErrTooSlow) {
			t.Error(err)
		}
	}
}

func TestOneSweepCarriesOnWorkflowsAndForgetsThem(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "", FlowKeep(time.Second))
	f.Add(task("f.Number", 1), AfterNodes(f.Add(task("f.Number", 2))))
	run, err := f.Submit(ctx)
	must(t, err)
	k := queue.store.Keys
	must(t, queue.store.TellFlow(ctx, run.flow, "e0 0 s")) // as a worker that was killed before it carried that on
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
	must(t, err)
	must(t, sweeper.Sweep(ctx))
	if n, err := queue.Len(ctx); n != 2 || err != nil {
		t.Error(n, err)
	}
	must(t, run.Cancel(ctx))
	must(t, queue.store.Client.ZIncrBy(ctx, k.FlowIDs, -86_400_000, run.flow).Err())
	must(t, sweeper.Sweep(ctx))
	if _, err := run.Status(ctx); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
}

func TestWhatAWorkflowEnqueuesIsAsDurableAsItsQueue(t *testing.T) {
	ctx := context.Background()
	server := own(t)
	queue := queueOn(t, server, Durability("replicas:1"), DurabilityTimeout(10*time.Millisecond))
	_, err := queue.SubmitFlow(ctx, task("f.Number", 1))
	if !errors.Is(err, ErrNotDurable) { // there is no replica
		t.Error(err)
	}
	queue = queueOn(t, server, Durability("aof"))
	run, err := queue.SubmitFlow(ctx, GroupOf(slicesOf(task("f.Number", 1), 300)...).Then(task("f.Sum")))
	must(t, err)
	runAll(t, queue)
	sum := 0
	if state := ended(t, run, &sum); state != StateSucceeded || sum != 300 {
		t.Error(state, sum)
	}
	called, err := queue.store.Client.Info(ctx, "commandstats").Result()
	must(t, err)
	proofs := 0 // by WAITAOF, or by what an older server says of its configuration
	for _, found := range regexp.MustCompile(`cmdstat_(?:waitaof|config\|get|config):calls=(\d+)`).FindAllStringSubmatch(called, -1) {
		n, err := strconv.Atoi(found[1])
		must(t, err)
		proofs = max(proofs, n)
	}
	if proofs < 3 { // which of them there is, the workflow, and the tasks of the group
		t.Error(proofs, called)
	}
}

func slicesOf(part Part, count int) []Part {
	parts := make([]Part, count)
	for i := range parts {
		parts[i] = part
	}
	return parts
}

func TestANodeAddsOthersBesideItself(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	other := beside(t, queue)
	w := flowWorker(t, queue)
	must(t, w.RegisterAs("f.Crawl", func(ctx context.Context, page int) (int, error) {
		if page >= 4 {
			return page, nil
		}
		added, err := AddToFlow(ctx, GroupOf(task("f.Crawl", 2*page), task("f.Crawl", 2*page+1)), "")
		again, err2 := AddToFlow(ctx, task("f.Crawl", 4), "last")
		twice, err3 := AddToFlow(ctx, task("f.Crawl", 4), "last")
		_, err4 := AddToFlow(ctx, On(other.Name(), task("f.Crawl", 4)), "elsewhere")
		_, err5 := AddToFlow(ctx, GroupOf(slicesOf(task("f.Number", 1), 1001)...), "many")
		if !added || !again || twice || !errors.Is(err4, ErrInvalidTask) || !errors.Is(err5, ErrInvalidTask) {
			err = errors.Join(err, fmt.Errorf("%v %v %v %w %w", added, again, twice, err4, err5))
		}
		return page, errors.Join(err, err2, err3)
	}))
	must(t, w.RegisterAs("f.Count", func(ctx context.Context) (int, error) {
		run, err := FlowOf(ctx)
		if err != nil {
			return 0, err
		}
		status, err := run.Status(ctx)
		return status.Succeeded, err
	}))
	run, err := queue.SubmitFlow(ctx, ChainOf(task("f.Crawl", 1), task("f.Count")))
	must(t, err)
	must(t, w.Run(ctx))
	count := 0
	if state := ended(t, run, &count); state != StateSucceeded || count != 10 {
		t.Error(state, count, states(t, run))
	}
}

func TestWhoHasLostItsLeaseAddsNothing(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	run, err := queue.SubmitFlow(ctx, task("f.Number", 1))
	must(t, err)
	job := &Job{queue: queue, lease: "gone", member: rdb.Member{Home: queue.Name(), Flow: run.flow}}
	if _, err := AddToFlow(context.WithValue(ctx, jobKey{}, job), task("f.Number", 2), ""); !errors.Is(err, ErrSuperseded) {
		t.Error(err)
	}
	if status, err := run.Status(ctx); err != nil || status.Total != 1 {
		t.Error(status, err)
	}
	for _, outside := range []context.Context{ctx, context.WithValue(ctx, jobKey{}, &Job{queue: queue})} {
		if _, err := AddToFlow(outside, task("f.Number", 2), ""); !errors.Is(err, ErrInvalidTask) {
			t.Error(err)
		}
		if _, err := FlowOf(outside); !errors.Is(err, ErrUnknownTask) {
			t.Error(err)
		}
		if err := Previous(outside, new(int)); !errors.Is(err, ErrNoResult) {
			t.Error(err)
		}
		for _, err := range Results[int](outside) {
			if !errors.Is(err, ErrNoResult) {
				t.Error(err)
			}
		}
	}
}

func TestWhatANodeFinds(t *testing.T) {
	ctx := context.Background()
	queue := newQueue(t)
	f := NewFlow(queue, "", OnFailure(PolicyContinue))
	one, bad, none := f.Add(task("f.Fail", 7)), f.Add(task("f.Fail", 2)), f.Add(task("f.None"))
	for _, each := range []struct {
		name  string
		after []Ref
	}{{"first", nil}, {"one", []Ref{one}}, {"bad", []Ref{bad}}, {"none", []Ref{none}}, {"all", []Ref{one, bad, none}},
		{"group", []Ref{f.Add(GroupOf(task("f.Number", 5)))}}} {
		f.Add(task("f.Look", each.name), AfterNodes(each.after...), Named(each.name))
	}
	run, err := f.Submit(ctx)
	must(t, err)
	w := flowWorker(t, queue)
	must(t, w.RegisterAs("f.None", func() {}))
	must(t, w.RegisterAs("f.Look", func(ctx context.Context, name string) string {
		if name == "all" || name == "group" {
			var list []int
			err := Previous(ctx, &list)
			var anything any
			return fmt.Sprint(list, err, Previous(ctx, &anything), anything, Previous(ctx, new(int)) != nil)
		}
		value := 99
		return fmt.Sprint(Previous(ctx, &value), " ", value, " ", Previous(ctx, nil) != nil)
	}))
	must(t, w.Run(ctx))
	for name, want := range map[string]string{
		"first": "delayed: the task keeps no result: no node is before this one 99 true",
		"one":   "<nil> 7 false",
		"bad":   "delayed: the task failed: errors.errorString: not two 99 true",
		"none":  "<nil> 0 false",
		"all":   "[7 0 0] <nil> <nil> [7 <nil> <nil>] true",
		"group": "[5] <nil> <nil> [5] true",
	} {
		said := ""
		if err := run.Value(ctx, name, &said); err != nil || said != want {
			t.Errorf("%s: %s; not %s; %v", name, said, want, err)
		}
	}
}

func TestAWorkflowOfAnApp(t *testing.T) {
	ctx := context.Background()
	app, err := NewApp(shared.url(), AppOptions{Prefix: "q" + rdb.Token(), Priorities: []string{"mail"}})
	must(t, err)
	t.Cleanup(func() { app.Close() })
	tenants := make(chan string, 10)
	must(t, app.HandleAs("app.Double", func(ctx context.Context, n int) int {
		tenants <- CurrentTask(ctx).Metadata["tenant"]
		return 2 * n
	}, OnQueue("mail"), Retry(2)))
	must(t, app.HandleAs("app.Sum", func(ctx context.Context) (sum int, err error) {
		for each, err := range Results[int](ctx) {
			if err != nil {
				return 0, err
			}
			sum += each
		}
		_, err = app.AddToFlow(ctx, Call{Function: "app.Double", Args: []any{sum}}, "")
		return sum, err
	}, OnQueue("mail")))
	double := func(n int) Part { return Call{Function: "app.Double", Args: []any{n}} }
	parent := context.WithValue(ctx, jobKey{}, &Job{Metadata: map[string]string{"tenant": "acme"}})
	run, err := app.SubmitFlow(parent, GroupOf(double(1), double(2)).Then(Call{Function: "app.Sum"}))
	must(t, err)
	if _, err := app.SubmitFlow(ctx, double(0), FlowHome("elsewhere")); err != nil {
		t.Error(err)
	}
	if _, err := app.SubmitFlow(ctx, Call{Function: "app.Double", Args: []any{"no number"}}); !errors.Is(err, ErrInvalidTask) {
		t.Error(err)
	}
	f := app.Flow("map")
	f.Map(Call{Function: "app.Double"}, f.Add(NewGoTask("f.List", 1)))
	if _, err := f.Submit(ctx); err != nil || f.home.Name() != app.options.Prefix+"mail" {
		t.Error(err)
	}
	worker, err := app.Worker(Burst(), NoSignals())
	must(t, err)
	must(t, worker.RegisterAs("f.List", func(n int) []int { return make([]int, n) }))
	must(t, worker.Run(ctx))
	sum := 0
	if state := ended(t, run, nil); state != StateSucceeded {
		t.Error(state)
	}
	must(t, run.Value(ctx, "app.Sum", &sum))
	known, err := app.Run(ctx, run.ID)
	must(t, err)
	if seen := <-tenants; sum != 6 || seen != "acme" || known.ID != run.ID || known.queue.Name() != app.options.Prefix+"mail" {
		t.Error(sum, seen, known)
	}
	if _, err := app.Run(ctx, NewID()); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
	old, err := NewApp(shared.url(), AppOptions{Wire: WireUpstream})
	must(t, err)
	defer old.Close()
	if _, err := old.SubmitFlow(ctx, Call{Function: "app.Double", Args: []any{1}}); !errors.Is(err, ErrConfiguration) {
		t.Error(err)
	}
}
