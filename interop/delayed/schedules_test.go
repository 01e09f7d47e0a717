package delayed

import (
	"errors"
	"slices"
	"testing"
	"time"
)

const newYear = "0 0 1 1 *"

var (
	past  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	years = time.Now().UTC().Year() - 2020 + 1 // new years since then
)

func schedule(t *testing.T, queue *Queue, name string, c Cron, args ...any) bool {
	t.Helper()
	changed, err := queue.Schedule(ctx, name, NewGoTask("main.F", args...), c)
	must(t, err)
	return changed
}

func makeDue(t *testing.T, queue *Queue, name string, moment int64) {
	t.Helper()
	must(t, queue.store.Client.Do(ctx, "ZADD", queue.store.Keys.CronDue, "XX", "CH", moment, name).Err())
}

func nextOf(t *testing.T, queue *Queue, name string) time.Time {
	t.Helper()
	listed, err := queue.Schedules(ctx)
	must(t, err)
	i := slices.IndexFunc(listed, func(s Scheduled) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return listed[i].Next
}

func length(t *testing.T, queue *Queue) int {
	t.Helper()
	both := queue.store.Client.TxPipeline() // a sweeper may be at it
	tasks, noti := both.LLen(ctx, queue.Name()), both.LLen(ctx, queue.store.Keys.Noti)
	_, err := both.Exec(ctx)
	must(t, err)
	if tasks.Val() != noti.Val() {
		t.Errorf("%d tasks, %d notifications", tasks.Val(), noti.Val())
	}
	return int(tasks.Val())
}

func TestSchedulingAgainChangesNothing(t *testing.T) {
	queue := newQueue(t)
	yearly := Cron{Expression: newYear, TZ: "Europe/Zurich", CatchUp: OneMissed}
	if !schedule(t, queue, "a", yearly, 1) {
		t.Error("it is new")
	}
	makeDue(t, queue, "a", past)
	if schedule(t, queue, "a", yearly, 1) {
		t.Error("it has not changed")
	}
	for _, args := range [][]any{{1}, {5}} { // another task at the same times
		schedule(t, queue, "a", yearly, args...)
		if next := nextOf(t, queue, "a"); next.UnixMilli() != past {
			t.Error(next)
		}
	}
	yearly.Expression = "0 0 2 1 *"
	if !schedule(t, queue, "a", yearly, 5) || nextOf(t, queue, "a").Day() == 31 || nextOf(t, queue, "a").UnixMilli() == past {
		t.Error(nextOf(t, queue, "a"))
	}
}

func TestPauseResumeRunRemove(t *testing.T) {
	queue := newQueue(t)
	fire, _ := firing(t, queue)
	schedule(t, queue, "a", Cron{Expression: newYear, CatchUp: AllMissed})
	makeDue(t, queue, "a", past)
	for i, want := range []bool{true, false} {
		if done, err := queue.PauseSchedule(ctx, "a"); err != nil || done != want {
			t.Error(i, done, err)
		}
	}
	if fire() >= 0 || !schedule(t, queue, "a", Cron{Expression: newYear, CatchUp: OneMissed}) || !nextOf(t, queue, "a").IsZero() {
		t.Error("a paused one stays so, whatever else is changed")
	}
	must(t, queue.RunSchedule(ctx, "a"))
	for i, want := range []bool{true, false} {
		if done, err := queue.ResumeSchedule(ctx, "a"); err != nil || done != want {
			t.Error(i, done, err)
		}
	}
	fire()
	must(t, queue.RunSchedule(ctx, "a"))
	if n := length(t, queue); n != 2 || !nextOf(t, queue, "a").Equal(time.Date(2020+years, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Error(n, nextOf(t, queue, "a"))
	}
	must(t, queue.RemoveSchedule(ctx, "a"))
	if queue.store.Client.Exists(ctx, queue.store.Keys.Cron, queue.store.Keys.CronDue).Val() != 0 {
		t.Error("something is left")
	}
	if err := queue.RunSchedule(ctx, "a"); !errors.Is(err, ErrUnknownSchedule) {
		t.Error(err)
	}
}

func TestTheListIsByTime(t *testing.T) {
	queue := newQueue(t)
	schedule(t, queue, "x", Cron{Expression: "* * * * *"})
	schedule(t, queue, "y", Cron{Expression: "0 0 29 2 *", TZ: "Europe/Zurich"})
	_, err := queue.Schedule(ctx, "py", NewPyTask("m:f", []any{1}, nil, Retry(2)), Cron{Expression: "0 0 29 2 *", TZ: "Asia/Tokyo"})
	must(t, err)
	for _, name := range []string{"c", "b"} {
		schedule(t, queue, name, Cron{Expression: newYear})
		_, err = queue.PauseSchedule(ctx, name)
		must(t, err)
	}
	listed, err := queue.Schedules(ctx)
	must(t, err)
	names := ""
	for _, each := range listed {
		names += each.Name + " "
	}
	want := Cron{"0 0 29 2 *", "Asia/Tokyo", SkipMissed}
	if names != "x py y b c " || listed[1].Cron != want || listed[1].Task != "m:f" || listed[0].Task != "main.F" {
		t.Errorf("%s %+v", names, listed)
	}
}

func TestSchedulesThatCannotWork(t *testing.T) {
	queue := newQueue(t, MaxTaskSize(100))
	second := Cron{Expression: "* * * * * *"}
	for _, option := range []TaskOption{ResultTTL(time.Second), Track(), Unique("k", UntilDone, time.Hour), After(time.Second),
		ExpiresAt(time.Now()), At(time.Now())} {
		if _, err := queue.Schedule(ctx, "a", NewGoTask("main.F").With(option), second); !errors.Is(err, ErrInvalidSchedule) {
			t.Error(err)
		}
	}
	if _, err := queue.Schedule(ctx, "a", NewGoTask("main.F").With(Expires(0)), second); !errors.Is(err, ErrInvalidTask) {
		t.Error(err)
	}
	grouped := NewGoTask("main.F").With(Group("g"), ConcurrencyKey("k", 1), Timeout(time.Second), After(0))
	if _, err := queue.Schedule(ctx, "a", grouped, second); err != nil {
		t.Error(err)
	}
	must(t, queue.RemoveSchedule(ctx, "a"))
	must(t, queue.store.Client.Del(ctx, queue.store.Keys.Wake).Err())
	if _, err := queue.Schedule(ctx, "a", NewGoTask("main.F"), Cron{Expression: "0 0 30 2 *"}); !errors.Is(err, ErrInvalidSchedule) {
		t.Error(err)
	}
	if _, err := queue.Schedule(ctx, "a", NewGoTask("main.F", make([]byte, 200)), second); !errors.Is(err, ErrTaskTooLarge) {
		t.Error(err)
	}
	if !clean(t, queue) {
		t.Error("something was written")
	}
}
