package delayed

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// Welcome is a function with a name.
func Welcome(context.Context, string) error { return nil }

// newApp has a prefix that no other test uses.
func newApp(t *testing.T, options AppOptions) *App {
	t.Helper()
	options.Prefix = "app-" + rdb.Token() + "-"
	options.QueueOptions = append(options.QueueOptions, DequeueTimeout(300*time.Millisecond))
	app, err := NewApp(shared.url(), options)
	must(t, err)
	t.Cleanup(func() { app.Close() })
	return app
}

// quiet are the options of a worker of a test.
func quiet(options ...WorkerOption) []WorkerOption {
	return append([]WorkerOption{NoSignals(), Logger(slog.New(slog.DiscardHandler))}, options...)
}

// serve runs the application's functions until its queues are empty.
func serve(t *testing.T, app *App, options ...WorkerOption) {
	t.Helper()
	worker, err := app.Worker(quiet(append(options, Burst())...)...)
	must(t, err)
	must(t, worker.Run(context.Background()))
}

// waitingIn are the tasks that wait in a queue of an application.
func waitingIn(t *testing.T, app *App, name string) []string {
	t.Helper()
	tasks, err := app.client.LRange(context.Background(), app.options.Prefix+name, 0, -1).Result()
	must(t, err)
	return tasks
}

func TestTheHeadersOfAnApplicationsTask(t *testing.T) {
	ctx, app := context.Background(), newApp(t, AppOptions{})
	must(t, app.HandleAs("main.Welcome", Welcome, OnQueue("mail"), Retry(5)))
	handle, err := app.Submit(ctx, "main.Welcome", []any{"Ada"}, Metadata(map[string]string{"tenant": "acme", "request": "7"}))
	must(t, err)
	data := []byte(waitingIn(t, app, "mail")[0])
	_, found, _ := wire.Peek(data)
	headers := found.All()
	want := map[string]string{"tenant": "acme", "request": "7"}
	if got, _ := headers["metadata"].(map[string]string); !maps.Equal(got, want) {
		t.Error(headers)
	}
	if headers["uid"] != handle.ID || !wire.IsID(handle.ID) || handle.Tracked || headers["id"] != nil || headers["enqueued"] != nil {
		t.Error(handle, headers)
	}
	if pauses := pausesFrom(headers["backoff"]); pauses != Exponential(time.Second).Capped(10*time.Minute) || headers["retry"] != int64(5) {
		t.Error(headers)
	}
	if _, err := handle.Status(ctx); !errors.Is(err, ErrNoResult) {
		t.Error(err)
	}
	if bare, named := len(without(data, "uid")), len(data); named-bare > 30 {
		t.Error(named - bare)
	}

	tracked, err := app.Submit(ctx, "main.Welcome", []any{"Ada"}, Track(), Backoff(Constant(time.Second)))
	must(t, err)
	_, found, _ = wire.Peek([]byte(waitingIn(t, app, "mail")[1]))
	headers = found.All()
	if headers["id"] != tracked.ID || headers["uid"] != nil || !tracked.Tracked || pausesFrom(headers["backoff"]) != Constant(time.Second) {
		t.Error(tracked, headers)
	}
}

func TestMetadataAlwaysHasTheSameBytes(t *testing.T) {
	texts := map[string]string{"c": "3", "a": "1", "b": "2"}
	first, err := NewGoTask("main.F").With(Metadata(texts)).Serialize()
	must(t, err)
	if want := "\x83\xa1a\xa11\xa1b\xa12\xa1c\xa13"; !bytes.HasSuffix(first, []byte(want)) {
		t.Errorf("%q", first)
	}
	for _, strange := range []any{map[string]int{"a": 1}, map[int]string{1: "a"}, "a", 1, nil, []string{"a"}} {
		packed, err := wire.PackHeaders([]wire.Header{{Name: "metadata", Value: strange}, {Name: "retry", Value: 1}})
		must(t, err)
		if headers, _ := wire.HeadersAt(packed, 0); headers.Value(wire.Metadata) != nil || headers.Number(wire.Retry) != 1 {
			t.Error(strange, headers)
		}
	}
}

func TestTasksInsideTasksInheritMetadata(t *testing.T) {
	ctx, app := context.Background(), newApp(t, AppOptions{})
	seen := map[string]map[string]string{}
	must(t, app.HandleAs("main.Parent", func(ctx context.Context) error {
		seen["parent"] = CurrentTask(ctx).Metadata
		_, err := app.Submit(ctx, "main.Child", nil, Metadata(map[string]string{"step": "2"}))
		return err
	}))
	must(t, app.HandleAs("main.Child", func(ctx context.Context) {
		job := CurrentTask(ctx)
		seen["child"], seen["ids"] = job.Metadata, map[string]string{"": job.ID}
		if job.Tracked || !wire.IsID(job.ID) || job.Progress(ctx, 1, 2, "") != nil || job.CheckCancelled(ctx) != nil {
			t.Error(job)
		}
	}))
	_, err := app.Submit(ctx, "main.Parent", nil, Metadata(map[string]string{"request": "7", "step": "1"}))
	must(t, err)
	serve(t, app)
	if !maps.Equal(seen["parent"], map[string]string{"request": "7", "step": "1"}) ||
		!maps.Equal(seen["child"], map[string]string{"request": "7", "step": "2"}) {
		t.Error(seen)
	}
	if keys := app.client.Keys(ctx, app.options.Prefix+"*_task_*").Val(); len(keys) > 0 {
		t.Error(keys) // nothing is kept of them
	}
}

func TestAWorkerServesQueuesAndPrioritiesInTheirOrder(t *testing.T) {
	ctx, app := context.Background(), newApp(t, AppOptions{Queues: []string{"urgent"}, Priorities: []string{"mail"}})
	var mu sync.Mutex
	var order []string
	note := func(what string) { mu.Lock(); defer mu.Unlock(); order = append(order, what) }
	must(t, app.HandleAs("main.Mail", note, OnQueue("mail")))
	must(t, app.HandleAs("main.Other", note))
	for _, each := range []struct {
		path, what string
		options    []TaskOption
	}{
		{"main.Other", "default", nil},
		{"main.Mail", "low", []TaskOption{Priority("low")}},
		{"main.Mail", "normal", []TaskOption{Priority("normal")}},
		{"main.Mail", "high", []TaskOption{Priority("high")}},
		{"main.Mail", "urgent", []TaskOption{OnQueue("urgent")}},
	} {
		_, err := app.Submit(ctx, each.path, []any{each.what}, each.options...)
		must(t, err)
	}
	worker, err := app.Worker(quiet(Burst())...)
	must(t, err)
	want := []string{"urgent", "mail.high", "mail", "mail.low", "default"}
	for i, name := range worker.queueNames() {
		if name != app.options.Prefix+want[i] {
			t.Error(name, want[i])
		}
	}
	must(t, worker.Run(ctx))
	if !slices.Equal(order, []string{"urgent", "high", "normal", "low", "default"}) {
		t.Error(order)
	}
	sweeper, err := app.Sweeper(SweeperNoSignals())
	must(t, err)
	if len(sweeper.queues) != len(want) {
		t.Error(len(sweeper.queues))
	}
}

func TestSubmitManyHasAHandleForEach(t *testing.T) {
	ctx, app := context.Background(), newApp(t, AppOptions{})
	must(t, app.HandleAs("main.Add", func(a, b int) int { return a + b }))
	calls := []Call{
		{Function: "main.Add", Args: []any{1, 2}},
		{Function: "main.Add", Args: []any{3, 4}, Options: []TaskOption{ResultTTL(time.Minute)}},
		{Function: "main.Add", Args: []any{5, 6}, Options: []TaskOption{Group("a")}},
		{Function: "shop.mail:send", Args: []any{1}, Keywords: map[string]any{"to": "Ada"}, Options: []TaskOption{OnQueue("python")}},
		{Function: "main.Add", Args: []any{7, 8}, Options: []TaskOption{After(time.Hour)}},
	}
	handles, err := app.SubmitMany(ctx, calls)
	must(t, err)
	ids := map[string]bool{}
	for i, handle := range handles {
		if !wire.IsID(handle.ID) || handle.Tracked != (i == 1) {
			t.Error(i, handle)
		}
		ids[handle.ID] = true
	}
	if len(ids) != len(calls) || idIn([]byte(waitingIn(t, app, "python")[0])) != handles[3].ID {
		t.Error(ids)
	}
	queue, err := app.Queue("")
	must(t, err)
	for waits, err := range queue.Waiting(ctx, Schedule) {
		must(t, err)
		if waits.ID != handles[4].ID || waits.Tracked {
			t.Error(waits)
		}
	}
	serve(t, app)
	sum := 0
	must(t, handles[1].Result(ctx, &sum))
	if sum != 7 {
		t.Error(sum)
	}

	before, _ := queue.Len(ctx)
	handles, err = app.SubmitMany(ctx, append(calls[:1:1], Call{Function: "main.Add", Args: []any{1}}))
	if after, _ := queue.Len(ctx); !errors.Is(err, ErrInvalidTask) || after != before || handles[0] != nil {
		t.Error(err, before, after, handles)
	}
}

func TestIDsInLogsAndDeadLetters(t *testing.T) {
	ctx, app := context.Background(), newApp(t, AppOptions{})
	must(t, app.HandleAs("main.Fail", func() error { return errors.New("broken") }))
	handle, err := app.Submit(ctx, "main.Fail", nil, Retry(1), Backoff(Constant(time.Millisecond).Exact()))
	must(t, err)
	var text bytes.Buffer
	worker, err := app.Worker(quiet(Logger(slog.New(slog.NewTextHandler(&text, nil))))...)
	must(t, err)
	ran := begin(ctx, worker)
	queue, err := app.Queue("")
	must(t, err)
	eventually(t, "it is a dead letter", func() bool { return len(deadLetters(t, queue)) == 1 })
	worker.Stop()
	must(t, ends(t, ran))
	if strings.Count(text.String(), "id="+handle.ID) != 2 { // once that it will run again, once that it has failed
		t.Error(text.String())
	}
	var letters []DeadLetter
	for letter, err := range queue.DeadLetters(ctx) {
		must(t, err)
		letters = append(letters, letter)
	}
	if len(letters) != 1 || letters[0].TaskID() != handle.ID {
		t.Fatal(letters)
	}
	there, err := queue.RetryLetter(ctx, letters[0])
	must(t, err)
	if again := waitingIn(t, app, "default"); !there || len(again) != 1 || idIn([]byte(again[0])) != handle.ID {
		t.Error(there, again)
	}
}

func TestAFunctionThatReturnsCheckCancelledIsCancelled(t *testing.T) {
	ctx, app := context.Background(), newApp(t, AppOptions{})
	runs, seen := make(chan struct{}), make(chan error, 1)
	must(t, app.HandleAs("main.Long", func(ctx context.Context) error {
		close(runs)
		job := CurrentTask(ctx)
		for {
			if err := job.CheckCancelled(context.WithoutCancel(ctx)); err != nil {
				seen <- err
				return errors.Join(errors.New("cleaning up"), err)
			}
			time.Sleep(time.Millisecond)
		}
	}))
	worker, err := app.Worker(quiet()...)
	must(t, err)
	ran := begin(ctx, worker)
	handle, err := app.Submit(ctx, "main.Long", nil, Track())
	must(t, err)
	<-runs
	_, err = handle.Cancel(ctx)
	must(t, err)
	if err := <-seen; err != ErrTaskCancelled { //nolint:errorlint // it is documented
		t.Error(err)
	}
	if err := handle.Result(ctx, nil); !errors.Is(err, ErrTaskCancelled) {
		t.Error(err)
	}
	worker.Stop()
	must(t, ends(t, ran))
	eventually(t, "the state says so", func() bool {
		status, err := handle.Status(ctx)
		return err == nil && status.State == StateCancelled
	})
	queue, err := app.Queue("")
	must(t, err)
	if letters := deadLetters(t, queue); len(letters) > 0 {
		t.Error(letters)
	}
}

func TestMiddlewaresAndWhatRunsAtStartAndStop(t *testing.T) {
	ctx := context.Background()
	var order []string
	note := func(what string) { order = append(order, what) }
	around := func(name string) Middleware {
		return func(ctx context.Context, next func(context.Context) error) error {
			note(name + " " + CurrentTask(ctx).Path)
			err := next(ctx)
			note(name + " ends")
			return err
		}
	}
	app := newApp(t, AppOptions{WorkerOptions: []WorkerOption{
		Around(around("outer"), around("inner")),
		OnStart(func(context.Context) error { note("start"); return nil }),
		OnStop(func() { note("stop 1") }), OnStop(func() { note("stop 2") }),
	}})
	must(t, app.HandleAs("main.F", func() int { note("F"); return 7 }))
	handle, err := app.Submit(ctx, "main.F", nil, ResultTTL(time.Minute))
	must(t, err)
	serve(t, app)
	value := 0
	must(t, handle.Result(ctx, &value))
	want := []string{"start", "outer main.F", "inner main.F", "F", "inner ends", "outer ends", "stop 2", "stop 1"}
	if value != 7 || !slices.Equal(order, want) {
		t.Error(value, order)
	}
	broken := errors.New("no database")
	worker, err := app.Worker(quiet(OnStart(func(context.Context) error { return broken }))...)
	must(t, err)
	if err := worker.Run(ctx); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestMiddlewaresAreAroundPlainTasksToo(t *testing.T) {
	ctx, app := context.Background(), newApp(t, AppOptions{Wire: WireUpstream})
	refused := errors.New("not today")
	must(t, app.HandleAs("main.F", func(string) { t.Error("it runs") }))
	handle, err := app.Submit(ctx, "main.F", []any{"Ada"})
	must(t, err)
	plain, err := NewGoTask("main.F", "Ada").Serialize()
	must(t, err)
	if tasks := waitingIn(t, app, "default"); handle.ID != "" || tasks[0] != string(plain) {
		t.Errorf("%q", tasks)
	}
	serve(t, app, Around(func(context.Context, func(context.Context) error) error { return refused }))
	queue, err := app.Queue("")
	must(t, err)
	if letters := deadLetters(t, queue); len(letters) != 1 || !strings.Contains(letters[0].detail, "not today") {
		t.Error(letters)
	}
	for _, option := range []TaskOption{Retry(1), Track(), After(time.Second), Metadata(map[string]string{"a": "b"})} {
		if _, err := app.Submit(ctx, "main.F", []any{"Ada"}, option); !errors.Is(err, ErrConfiguration) {
			t.Error(err)
		}
	}
	_, err = app.Submit(ctx, "shop.mail:send", nil, Retry(1), OnQueue("python"))
	must(t, err)
}

func TestFunctionsAreNamedByThemselves(t *testing.T) {
	ctx, app := context.Background(), newApp(t, AppOptions{})
	must(t, app.Handle(Welcome, OnQueue("mail")))
	handle, err := app.Submit(ctx, Welcome, []any{"Ada"})
	must(t, err)
	if task, _, _ := wire.Peek([]byte(waitingIn(t, app, "mail")[0])); task != pathOf(Welcome) || handle.path != task {
		t.Error(task)
	}
	for _, path := range []string{"main.A", "main.B"} {
		must(t, app.HandleAs(path, closure(path)))
	}
	if _, err := app.Submit(ctx, closure("main.A"), nil); !errors.Is(err, ErrInvalidTask) || !strings.Contains(err.Error(), "several paths") {
		t.Error(err)
	}
}

//go:noinline
func closure(text string) func() string { return func() string { return text } }

func TestWhatAnApplicationRefuses(t *testing.T) {
	ctx, app := context.Background(), newApp(t, AppOptions{Priorities: []string{"mail"}})
	if _, err := app.Worker(); !errors.Is(err, ErrConfiguration) {
		t.Error(err)
	}
	must(t, app.HandleAs("main.F", func(int) {}))
	for what, err := range map[string]error{
		"twice":     app.HandleAs("main.F", func() {}),
		"anonymous": app.Handle(func() {}),
		"no func":   app.Handle("main.F"),
		"Python's":  app.HandleAs("shop:F", func() {}),
		"no path":   app.Declare(""),
	} {
		if !errors.Is(err, ErrConfiguration) {
			t.Error(what, err)
		}
	}
	for what, call := range map[string]Call{
		"arguments":       {Function: "main.F", Args: []any{"text"}},
		"no such band":    {Function: "main.G", Options: []TaskOption{Priority("urgent"), OnQueue("mail")}},
		"no bands":        {Function: "main.G", Options: []TaskOption{Priority("high")}},
		"language":        {Function: "shop:f"},
		"keywords":        {Function: "main.G", Keywords: map[string]any{"a": 1}},
		"no function":     {Function: 7},
		"nil":             {},
		"anything at all": {Function: "main.F", Args: []any{make(chan int)}},
	} {
		if _, err := app.Submit(ctx, call.Function, call.Args, call.Options...); what != "keywords" && !errors.Is(err, ErrInvalidTask) {
			t.Error(what, err)
		}
		if _, err := app.SubmitMany(ctx, []Call{call}); !errors.Is(err, ErrInvalidTask) {
			t.Error(what, err)
		}
	}
	must(t, app.Declare("shop:f"))
	if _, err := app.Worker(); !errors.Is(err, ErrConfiguration) {
		t.Error(err)
	}
	queue, err := app.Queue("mail")
	must(t, err)
	if err := queue.Enqueue(ctx, NewGoTask("main.F", 1).With(Priority("high"))); !errors.Is(err, ErrInvalidTask) {
		t.Error(err)
	}
}

func TestWhereAnApplicationIs(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "url")
	must(t, os.WriteFile(secret, []byte(shared.url()+"\n"), 0o600))
	nowhere := "redis://nowhere.invalid:1"
	for name, variables := range map[string]map[string]string{
		"file":          {"DELAYED_REDIS_URL_FILE": secret, "DELAYED_REDIS_URL": nowhere, "REDIS_URL": nowhere},
		"ours":          {"DELAYED_REDIS_URL_FILE": "", "DELAYED_REDIS_URL": shared.url(), "REDIS_URL": nowhere},
		"everybody's":   {"DELAYED_REDIS_URL_FILE": "", "DELAYED_REDIS_URL": "", "REDIS_URL": shared.url()},
		"a broken file": {"DELAYED_REDIS_URL_FILE": secret + "x", "DELAYED_REDIS_URL": "", "REDIS_URL": shared.url()},
	} {
		for key, value := range variables {
			t.Setenv(key, value)
		}
		app, err := NewApp("", AppOptions{})
		if name == "a broken file" {
			if !errors.Is(err, ErrConfiguration) {
				t.Error(err)
			}
			continue
		}
		must(t, err)
		must(t, app.client.Ping(context.Background()).Err())
		must(t, app.Close())
	}
	client := connectTo(t, shared)
	app, err := NewApp(client, AppOptions{})
	must(t, err)
	must(t, app.Close())
	must(t, client.Ping(context.Background()).Err()) // it is ours
	for _, wrong := range []any{7, "redis:/nothing"} {
		if _, err := NewApp(wrong, AppOptions{}); !errors.Is(err, ErrConfiguration) {
			t.Error(wrong, err)
		}
	}
	for _, options := range []AppOptions{{Wire: "x"}, {Queue: "a_noti"}, {Queues: []string{""}}} {
		if _, err := NewApp(client, options); !errors.Is(err, ErrConfiguration) {
			t.Error(options, err)
		}
	}
}
