package delayed

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/cron"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// firing is a sweeper that only fires, when it is told, and what it logs.
func firing(t *testing.T, queue *Queue) (fire func() time.Duration, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals(), SweeperLogger(slog.New(slog.NewTextHandler(log, nil))))
	must(t, err)
	return func() time.Duration {
		t.Helper()
		pause, err := sweeper.fire(ctx, queue)
		must(t, err)
		return pause
	}, log
}

func TestWhatWasMissed(t *testing.T) {
	for catchUp, count := range map[CatchUp]int{SkipMissed: 0, OneMissed: 1, AllMissed: years} {
		queue := newQueue(t)
		fire, log := firing(t, queue)
		if fire() >= 0 {
			t.Error("there is nothing to wait for")
		}
		schedule(t, queue, "a", Cron{Expression: newYear, CatchUp: catchUp})
		if fire() <= 0 {
			t.Error("it fires in the future")
		}
		makeDue(t, queue, "a", past)
		fire()
		if n := length(t, queue); n != count || strings.Contains(log.String(), "missed") != (count == 0) {
			t.Errorf("%s: %d tasks, %s", catchUp, n, log)
		}
		if next := nextOf(t, queue, "a"); !next.Equal(time.Date(2020+years, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Error(next)
		}
		makeDue(t, queue, "a", time.Now().UnixMilli())
		fire()
		if n := length(t, queue); n != count+1 {
			t.Errorf("%s: what is due now fires whatever the catch-up: %d", catchUp, n)
		}
	}
}

func TestOccurrencesThatAreTooLateAreNotEnqueued(t *testing.T) {
	for catchUp, ages := range map[CatchUp][]int64{SkipMissed: nil, OneMissed: {0}, AllMissed: {2, 1, 0}} {
		queue := newQueue(t)
		fire, log := firing(t, queue)
		lasts := 150 * time.Minute
		_, err := queue.Schedule(ctx, "a", NewPyTask("m:f", nil, nil, Expires(lasts)), Cron{Expression: "0 * * * *", CatchUp: catchUp})
		must(t, err)
		definition := queue.store.Client.HGet(ctx, queue.store.Keys.Cron, "a").Val()
		now, err := queue.store.Now(ctx)
		must(t, err)
		hour := time.Hour.Milliseconds()
		newest := now / hour * hour
		makeDue(t, queue, "a", newest-20*hour)
		fire()
		var want []int64
		for _, age := range ages {
			if moment := newest - age*hour; moment+lasts.Milliseconds() > now {
				want = append(want, moment+lasts.Milliseconds())
			}
		}
		if catchUp == SkipMissed && now-newest <= cron.Punctual {
			want = []int64{newest + lasts.Milliseconds()}
		}
		var got []int64
		for _, data := range queue.store.Client.LRange(ctx, queue.Name(), 0, -1).Val() {
			_, headers, _ := wire.Peek([]byte(data))
			got = append(got, headers.Number(wire.Expires))
		}
		if !slices.Equal(got, want) || strings.Contains(log.String(), "missed") != (catchUp == AllMissed || len(want) == 0) {
			t.Errorf("%s: %v, not %v; %s", catchUp, got, want, log)
		}
		if again := queue.store.Client.HGet(ctx, queue.store.Keys.Cron, "a").Val(); again != definition || nextOf(t, queue, "a").UnixMilli() != newest+hour {
			t.Error("the definition has changed, or it does not go on")
		}
		must(t, queue.RunSchedule(ctx, "a")) // from now on
		last := queue.store.Client.LIndex(ctx, queue.Name(), -1).Val()
		_, headers, _ := wire.Peek([]byte(last))
		if expires := headers.Number(wire.Expires); expires < now+lasts.Milliseconds() {
			t.Error(expires)
		}
		if listed, err := queue.Schedules(ctx); err != nil || listed[0].Expires != lasts {
			t.Error(listed, err)
		}
	}
}

func TestManyFireEachOccurrenceOnce(t *testing.T) {
	queue := newQueue(t)
	for i := range 10 {
		name := string(rune('a' + i))
		schedule(t, queue, name, Cron{Expression: newYear, CatchUp: AllMissed}, i)
		makeDue(t, queue, name, past)
	}
	var all sync.WaitGroup
	for range 8 {
		fire, _ := firing(t, queue)
		all.Go(func() { fire() })
	}
	all.Wait()
	tasks := map[string]int{}
	for _, task := range queue.store.Client.LRange(ctx, queue.Name(), 0, -1).Val() {
		tasks[task]++
	}
	for task, n := range tasks {
		if n != years {
			t.Errorf("%q: %d", task, n)
		}
	}
	if n := length(t, queue); n != 10*years {
		t.Error(n)
	}
}

func TestWhatCannotBeReadIsReportedAndHoldsNothingUp(t *testing.T) {
	queue := newQueue(t)
	fire, log := firing(t, queue)
	good, err := wire.Encode(map[string]any{"expression": newYear, "tz": "Moon/Crater", "catch_up": "one", "task": []byte("\x91\xa1f")}, false)
	must(t, err)
	for name, definition := range map[string]string{"noise": "\xc1", "zone": string(good), "no task": "\x80", "empty": ""} {
		must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Cron, name, definition).Err())
		must(t, queue.store.Client.Do(ctx, "ZADD", queue.store.Keys.CronDue, 1, name).Err())
	}
	must(t, queue.store.Client.Do(ctx, "ZADD", queue.store.Keys.CronDue, 1, "orphan").Err())
	schedule(t, queue, "a", Cron{Expression: newYear, CatchUp: OneMissed})
	makeDue(t, queue, "a", past)
	if fire() <= 0 || length(t, queue) != 1 {
		t.Error("the good one has not fired")
	}
	for _, words := range []string{"Moon/Crater", "Python sweeper", "no definition"} {
		if !strings.Contains(log.String(), words) {
			t.Errorf("%q is not in %s", words, log)
		}
	}
	if queue.store.Client.ZCard(ctx, queue.store.Keys.CronDue).Val() != 5 { // the orphan is gone
		t.Error(queue.store.Client.ZRange(ctx, queue.store.Keys.CronDue, 0, -1).Val())
	}
	if listed, err := queue.Schedules(ctx); err != nil || len(listed) != 5 {
		t.Error(listed, err)
	}
	if err := queue.RunSchedule(ctx, "zone"); !errors.Is(err, ErrInvalidSchedule) {
		t.Error(err)
	}
	must(t, queue.RemoveSchedule(ctx, "noise"))
}

func TestSweepersFireInTimeAndHearOfNewSchedules(t *testing.T) {
	queue := newQueue(t)
	for range 3 {
		sweeping(t, queue, SweepInterval(10*time.Minute))
	}
	eventually(t, "they have begun", func() bool { return queue.store.Client.HLen(ctx, queue.store.Keys.Workers).Val() == 3 })
	schedule(t, queue, "a", Cron{Expression: "* * * * * *", CatchUp: AllMissed})
	began := nextOf(t, queue, "a")
	eventually(t, "it fires", func() bool { n, _ := queue.Len(ctx); return n >= 2 })
	before := nextOf(t, queue, "a")
	_, err := queue.PauseSchedule(ctx, "a")
	must(t, err)
	if n := length(t, queue); n < 2 || n > int(before.Sub(began)/time.Second)+1 {
		t.Errorf("%d tasks from %s to %s", n, began, before)
	}
}

// A sweeper whose connections break again and again, and that is refused memory, fires each occurrence once.
func TestBrokenConnectionsFireEachOccurrenceOnce(t *testing.T) {
	queue := queueOn(t, own(t))
	for range 2 {
		sweeping(t, queue, SweepInterval(20*time.Millisecond))
	}
	names := []string{"a", "b", "c"}
	for _, name := range names {
		schedule(t, queue, name, Cron{Expression: newYear, CatchUp: OneMissed}, name)
	}
	rounds := 30
	for round := 1; round <= rounds; round++ {
		for _, name := range names {
			makeDue(t, queue, name, past)
		}
		must(t, queue.store.Client.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
		eventually(t, "all have fired", func() bool {
			return queue.store.Client.Do(ctx, "ZCOUNT", queue.store.Keys.CronDue, "-inf", past).Val() == int64(0)
		})
		if n := length(t, queue); n != round*len(names) {
			t.Fatalf("%d tasks after %d rounds", n, round)
		}
	}
}

// cut is a connection that breaks at a command: before Redis has it, or before the reply comes.
type cut struct {
	rdb.Caller
	left  int  // commands until then
	after bool // Redis carries it out
}

var errCut = errors.New("cut")

func (c *cut) Call(ctx context.Context, args ...string) (any, error) {
	if c.left--; c.left > 0 {
		return c.Caller.Call(ctx, args...)
	}
	if c.left == 0 && c.after {
		c.Caller.Call(ctx, args...) //nolint:errcheck // nobody hears of it
	}
	return nil, errCut
}

func TestASweeperThatDiesAtAnyCommandFiresEachOccurrenceOnce(t *testing.T) {
	points := 0
	for _, after := range []bool{false, true} {
		for left := 1; ; left++ {
			queue := newQueue(t)
			fire, _ := firing(t, queue)
			for catchUp, name := range map[CatchUp]string{SkipMissed: "a", OneMissed: "b", AllMissed: "c"} {
				schedule(t, queue, name, Cron{Expression: newYear, CatchUp: catchUp}, name)
				makeDue(t, queue, name, past)
			}
			must(t, queue.store.Client.Do(ctx, "ZADD", queue.store.Keys.CronDue, 1, "orphan").Err())
			sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals(), SweeperLogger(slog.New(slog.DiscardHandler)))
			must(t, err)
			_, err = sweeper.fire(ctx, queue.over(&cut{queue.store.Caller, left, after}))
			fire()
			if n := length(t, queue); n != 1+years || queue.store.Client.ZCard(ctx, queue.store.Keys.CronDue).Val() != 3 {
				t.Errorf("%d tasks after a cut at command %d (after: %v)", n, left, after)
			}
			if err == nil {
				break
			}
			points++
		}
	}
	if points < 30 {
		t.Errorf("%d points", points)
	}
}

func TestAnyScoreHoldsNothingUp(t *testing.T) {
	for _, text := range []string{"1.5", "-inf", "inf", "-5", "1e300", "-1e300", "1577836800000.25", "0.0000001", "9007199254740993.5"} {
		for _, catchUp := range []CatchUp{SkipMissed, OneMissed, AllMissed} {
			queue := newQueue(t)
			fire, log := firing(t, queue)
			schedule(t, queue, "odd", Cron{Expression: newYear, CatchUp: catchUp})
			must(t, queue.store.Client.Do(ctx, "ZADD", queue.store.Keys.CronDue, text, "odd").Err())
			schedule(t, queue, "a", Cron{Expression: newYear, CatchUp: OneMissed}, 2)
			makeDue(t, queue, "a", past)
			fire()
			never := text == "inf" || text == "1e300" || text == "9007199254740993.5"
			if goesOn := nextOf(t, queue, "odd").Equal(nextOf(t, queue, "a")); goesOn == never || length(t, queue) == 0 {
				t.Error(text, catchUp, nextOf(t, queue, "odd"), log)
			}
			if changed, err := queue.Schedule(ctx, "odd", NewGoTask("main.F", 3), Cron{Expression: newYear, CatchUp: catchUp}); !changed || err != nil {
				t.Error(text, changed, err)
			}
			must(t, queue.RunSchedule(ctx, "odd"))
			_, err := queue.ResumeSchedule(ctx, "odd")
			must(t, err)
			if !nextOf(t, queue, "odd").Equal(nextOf(t, queue, "a")) {
				t.Error(text, nextOf(t, queue, "odd"))
			}
			if paused, err := queue.PauseSchedule(ctx, "odd"); !paused || err != nil {
				t.Error(text, paused, err)
			}
			must(t, queue.RemoveSchedule(ctx, "odd"))
		}
	}
}

// overtaken changes a schedule before each change of ours.
type overtaken struct {
	rdb.Caller
	queue *Queue
	count int
}

func (e *overtaken) Call(ctx context.Context, args ...string) (any, error) {
	if args[0] == "EVALSHA" && args[1] == rdb.Scripts["cron"].Sha {
		e.count++
		if err := e.queue.store.Client.Do(ctx, "ZADD", e.queue.store.Keys.CronDue, e.count, "a").Err(); err != nil {
			return nil, err
		}
	}
	return e.Caller.Call(ctx, args...)
}

func TestAChangeThatOthersAreAlwaysFasterThanEnds(t *testing.T) {
	queue := newQueue(t)
	schedule(t, queue, "a", Cron{Expression: newYear, CatchUp: OneMissed})
	makeDue(t, queue, "a", past)
	busy := &overtaken{queue.store.Caller, queue, 0}
	ours := queue.over(busy)
	if err := ours.RunSchedule(ctx, "a"); err == nil || !strings.Contains(err.Error(), "changed by others 100 times; try again") {
		t.Error(err)
	}
	sweeper := newSweeper(t, queue)
	if pause, err := sweeper.fireUntil(ctx, ours, func() bool { return true }); pause != 0 || err != nil || busy.count != 200 {
		t.Error(pause, err, busy.count)
	}
}

func TestStepsAreBoundedAndAllHaveTheirTurn(t *testing.T) {
	queue := newQueue(t)
	for i, name := range []string{"a", "b", "c"} {
		schedule(t, queue, name, Cron{Expression: "* * * * * *", CatchUp: AllMissed}, i)
		makeDue(t, queue, name, int64(i)) // since 1970
	}
	sweeper := newSweeper(t, queue)
	for step := range 6 {
		pause, err := sweeper.fireUntil(ctx, queue, func() bool { return true })
		if n := length(t, queue); pause != 0 || err != nil || n != 1000*(step+1) {
			t.Error(step, pause, err, n)
		}
	}
	tasks := map[string]int{}
	for _, task := range queue.store.Client.LRange(ctx, queue.Name(), 0, -1).Val() {
		tasks[task]++
	}
	for task, n := range tasks {
		if n != 2000 {
			t.Errorf("%q: %d", task, n)
		}
	}
}

func TestSchedulesComeBackWhenRedisHasLostThem(t *testing.T) {
	queue := newQueue(t)
	start(t, queue, nil, Beat(50*time.Millisecond))
	for _, name := range []string{"a", "b"} {
		schedule(t, queue, name, Cron{Expression: newYear})
	}
	k := queue.store.Keys
	noted := func() bool { return queue.store.Client.HLen(ctx, k.CronDefined).Val() == 2 }
	eventually(t, "the worker has noted them", noted)
	must(t, queue.store.Client.Unlink(ctx, k.Cron, k.CronDue, k.CronDefined).Err())
	eventually(t, "they are back", func() bool { return queue.store.Client.HLen(ctx, k.Cron).Val() == 2 && noted() })
	must(t, queue.store.Client.HDel(ctx, k.Cron, "a").Err()) // an operator removes one
	other := newQueueNamed(t, queue.Name())
	must(t, other.RemoveSchedule(ctx, "b"))
	beats := queue.store.Client.HGetAll(ctx, k.Workers).Val()
	eventually(t, "it beats", func() bool {
		now := queue.store.Client.HGetAll(ctx, k.Workers).Val()
		for name, about := range now {
			if about == beats[name] {
				return false
			}
		}
		return len(now) > 0
	})
	if n := queue.store.Client.HLen(ctx, k.Cron).Val(); n != 0 {
		t.Error("what an operator has removed is back", n)
	}
}
