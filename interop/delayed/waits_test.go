package delayed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
	"github.com/redis/go-redis/v9"
)

// done stores a result, as a worker does.
func done(t *testing.T, queue *Queue, handle *Handle, value any) {
	t.Helper()
	data, err := packResult(string(StateSucceeded), value)
	must(t, err)
	must(t, queue.store.Client.HSet(ctx, queue.store.Keys.Task(handle.ID), "result", data).Err())
}

// waitingFor is how many wait for results of a client.
func waitingFor(queue *Queue) int {
	waiters.Lock()
	defer waiters.Unlock()
	w := waiters.running[waiterKey{client: queue.store.Client}]
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}

func narrow(t *testing.T, s *redisServer, size int) *Queue {
	t.Helper()
	client, err := Connect(s.url() + "?timeout=5&max_connections=" + strconv.Itoa(size))
	must(t, err)
	t.Cleanup(func() { client.Close() })
	queue, err := NewQueue("q"+rdb.Token(), client)
	must(t, err)
	return queue
}

func TestWhatIsSubmittedTwiceIsThereTwice(t *testing.T) {
	for _, task := range []Task{
		NewGoTask("main.F"), NewGoTask("main.F").With(ResultTTL(time.Minute)), NewPyTask("m:f", nil, nil, Track()),
		NewGoTask("main.F").With(Track(), Group("g")), NewGoTask("main.F").With(Track(), After(time.Hour)),
	} {
		queue := newQueue(t)
		first, second := submit(t, queue, task), submit(t, queue, task)
		must(t, queue.Enqueue(ctx, task))
		n, err := queue.EnqueueMany(ctx, slices.Values([]Task{task, task}))
		must(t, err)
		there := length(t, queue) + int(queue.store.Client.ZCard(ctx, queue.store.Keys.Scheduled).Val()) +
			int(queue.store.Client.LLen(ctx, queue.store.Keys.Group(rdb.Digest("g"))).Val())
		if there != 5 || n != 2 || first.Known || second.Known || asksOf(task).tracked() == (first.ID == second.ID) {
			t.Errorf("%s: %d are there", task.FuncPath(), there)
		}
	}
}

func TestWhoNamesTheIDMaySubmitAgain(t *testing.T) {
	queue, id := newQueue(t), NewID()
	task := NewGoTask("main.F").With(ResultTTL(time.Minute))
	first, err := queue.Submit(ctx, task, ID(id))
	must(t, err)
	again, err := queue.Submit(ctx, NewGoTask("main.G").With(Track()), ID(id))
	must(t, err)
	if first.ID != id || again.ID != id || first.Known || !again.Known || length(t, queue) != 1 {
		t.Error(first, again)
	}
	for _, wrong := range []struct {
		task Task
		id   string
	}{{task, "short"}, {task, ""}, {NewGoTask("main.F"), id}} {
		if _, err := queue.Submit(ctx, wrong.task, ID(wrong.id)); !errors.Is(err, ErrInvalidTask) {
			t.Error(err)
		}
	}
	key := NewGoTask("main.F").With(Unique("k", UntilDone, time.Hour), Join())
	if one, other := submit(t, queue, key), submit(t, queue, key); one.ID != other.ID || one.Known || !other.Known {
		t.Error(one, other)
	}
}

func TestRelativeTimesAreTheServers(t *testing.T) {
	for _, skew := range []time.Duration{time.Hour, -time.Hour} { // of the server
		queue := newQueue(t)
		must(t, queue.Enqueue(ctx, NewGoTask("main.F").With(ExpiresAt(time.Now().Add(time.Hour)))))
		if !queue.clock.Stale() {
			t.Error("it was asked without a need")
		}
		queue.store.Client.Del(ctx, queue.store.Keys.Queue, queue.store.Keys.Noti)
		queue.clock.Learn(time.Now().Add(skew), time.Now(), time.Now())
		must(t, queue.Enqueue(ctx, NewGoTask("main.F").With(Expires(30*time.Second))))
		n, err := queue.EnqueueMany(ctx, slices.Values([]Task{NewPyTask("m:f", nil, nil, Expires(30*time.Second))}))
		must(t, err)
		for i := range int64(n) + 1 {
			_, headers, _ := wire.Peek([]byte(queue.store.Client.LIndex(ctx, queue.store.Keys.Queue, i).Val()))
			if in := time.UnixMilli(headers.Number(wire.Expires)).Sub(time.Now().Add(skew)); in < 28*time.Second || in > 31*time.Second {
				t.Error(in)
			}
		}
		handle := submit(t, queue, NewGoTask("main.F").With(Track(), After(30*time.Minute)))
		want := map[bool]State{true: StateQueued, false: StateScheduled}[skew > 0]
		if state := stateOf(t, handle); state != want {
			t.Errorf("by a server that is %s ahead it is %s", skew, state)
		}
		job := newJob(queue, call{headers: headersOf(t, map[string]any{"expires": time.Now().Add(skew / 2).UnixMilli()})})
		if late := job.expired(queue.clock); (late != nil) != (skew > 0) {
			t.Errorf("by a server that is %s ahead it is %v", skew, late)
		}
	}
	queue := newQueue(t)
	must(t, queue.Enqueue(ctx, NewGoTask("main.F").With(Expires(time.Minute))))
	if queue.clock.Stale() || time.Until(queue.clock.Now()).Abs() > time.Second {
		t.Error("the server was not asked")
	}
	then := time.Now().Add(-2 * time.Minute)
	queue.clock.Learn(then, then, then)
	if !queue.clock.Stale() {
		t.Error("what was said long ago counts")
	}
}

func TestAnEnqueueThatCouldNotAskHasDoneNothing(t *testing.T) {
	s := own(t)
	queue := queueOn(t, s)
	s.kill()
	err := queue.Enqueue(ctx, NewGoTask("main.F").With(Expires(time.Minute)))
	if err == nil || errors.Is(err, ErrOutcomeUnknown) || !strings.Contains(err.Error(), "before anything was enqueued") {
		t.Error(err)
	}
}

func TestAnyNumberOfWaitsTakesOneConnection(t *testing.T) {
	queue := narrow(t, shared, 2)
	handles := make([]*Handle, 500)
	for i := range handles {
		handles[i] = submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute)))
	}
	var wait sync.WaitGroup
	for i, handle := range handles {
		wait.Go(func() {
			var got int
			if err := handle.Result(soon(t), &got); err != nil || got != i {
				t.Errorf("%d: %d %v", i, got, err)
			}
		})
	}
	eventually(t, "all wait", func() bool { return waitingFor(queue) == len(handles) })
	must(t, queue.Enqueue(ctx, NewGoTask("main.F"))) // nobody stands in the way
	for i, handle := range handles {
		done(t, queue, handle, i)
	}
	wait.Wait()
	if waitingFor(queue) != 0 {
		t.Error("somebody waits")
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	queue := newQueue(t)
	handle := submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute)))
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := handle.Result(short, nil); !errors.Is(err, ErrNotDone) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if waitingFor(queue) != 0 {
		t.Error("it waits on")
	}
	if err := queue.Handle(NewID()).Result(soon(t), nil); !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
	done(t, queue, handle, 7)
	var got int
	if err := handle.Result(short, &got); err != nil || got != 7 { // it looks once, though its time is over
		t.Error(got, err)
	}
}

func TestEveryAnswerReachesWhoeverWaits(t *testing.T) {
	queue := newQueue(t)
	foreign, gone := submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute))), submit(t, queue, NewGoTask("main.F").With(Track()))
	answers := make(chan error, 2)
	for _, handle := range []*Handle{foreign, gone} {
		go func() { answers <- handle.Result(soon(t), nil) }()
	}
	eventually(t, "both wait", func() bool { return waitingFor(queue) == 2 })
	must(t, queue.store.Client.Set(ctx, queue.store.Keys.Task(foreign.ID), "another program's", time.Minute).Err())
	if err := <-answers; err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Error(err)
	}
	must(t, queue.store.Client.Del(ctx, queue.store.Keys.Task(gone.ID)).Err())
	if err := <-answers; !errors.Is(err, ErrUnknownTask) {
		t.Error(err)
	}
}

func TestWhoMayNotTrackLooksMoreOften(t *testing.T) {
	for _, denied := range [][]any{{"-client"}, {"-hello"}, {"-client", "-hello"}} {
		user := "u" + rdb.Token()
		queue := newQueue(t)
		must(t, queue.store.Client.Do(ctx, append([]any{"ACL", "SETUSER", user, "on", ">pw", "~*", "+@all"}, denied...)...).Err())
		t.Cleanup(func() { queue.store.Client.Do(ctx, "ACL", "DELUSER", user) })
		client, err := Connect(strings.Replace(shared.url(), "//", "//"+user+":pw@", 1) + "?protocol=2")
		must(t, err)
		limited, err := NewQueue(queue.Name(), client)
		must(t, err)
		handle := submit(t, limited, NewGoTask("main.F").With(ResultTTL(time.Minute)))
		time.AfterFunc(200*time.Millisecond, func() { done(t, queue, handle, 1) })
		must(t, handle.Result(soon(t), nil))
		client.Close()
	}
}

func TestWaitsGoOnOverARestart(t *testing.T) {
	s := own(t)
	queue := queueOn(t, s)
	handle := submit(t, queue, NewGoTask("main.F").With(ResultTTL(time.Minute)))
	answers, states := make(chan error, 1), make(chan State, 1)
	go func() { answers <- handle.Result(soon(t), nil) }()
	eventually(t, "it waits", func() bool { return waitingFor(queue) == 1 })
	s.kill()
	go func() {
		status, err := handle.Status(ctx)
		if err != nil {
			t.Error(err)
		}
		states <- status.State
	}()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := handle.Result(short, nil); !errors.Is(err, ErrNotDone) || !strings.Contains(err.Error(), "Redis cannot be asked") {
		t.Error(err)
	}
	must(t, s.start(true))
	if state := <-states; state != StateQueued {
		t.Error(state)
	}
	done(t, queue, handle, 1)
	must(t, <-answers)
}

func TestATaskThatWaitsForOneOfItsOwnQueueIsTold(t *testing.T) {
	said := make(loggedLines, 10)
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(said, nil)))
	defer slog.SetDefault(before)
	queue := newQueue(t)
	child := submit(t, queue, NewGoTask("main.Child").With(ResultTTL(time.Minute)))
	parent := &Job{ID: NewID(), Path: "main.Parent", queue: queue}
	defer func(d time.Duration) { remindAfter = d }(remindAfter)
	remindAfter = time.Millisecond
	short, cancel := context.WithTimeout(context.WithValue(ctx, jobKey{}, parent), 100*time.Millisecond)
	defer cancel()
	if err := child.Result(short, nil); !errors.Is(err, ErrNotDone) {
		t.Error(err)
	}
	line := <-said
	for _, word := range []string{"main.Parent", parent.ID, "main.Child", child.ID, "of its own queue"} {
		if strings.Count(line, word) != 1 {
			t.Error(line)
		}
	}
	if len(said) > 0 {
		t.Error("it is told again")
	}
}

// loggedLines are what is written, one each.
type loggedLines chan string

func (l loggedLines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// tlsBefore speaks TLS, and passes everything on to a server.
func tlsBefore(t *testing.T, network, address string) int {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair("../../tests/certificates/certificate.pem", "../../tests/certificates/key.pem")
	must(t, err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, address)
			if err != nil {
				client.Close()
				continue
			}
			go func() { io.Copy(server, client); server.Close() }() //nolint:errcheck // then it ends
			go func() { io.Copy(client, server); client.Close() }() //nolint:errcheck // likewise
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestPrivateAuthorities(t *testing.T) {
	pem, err := os.ReadFile("../../tests/certificates/certificate.pem")
	must(t, err)
	port := tlsBefore(t, "unix", shared.socket())
	ping := func(host, options string) error {
		client, err := Connect(fmt.Sprintf("rediss://%s:%d?socket_connect_timeout=5&%s", host, port, options))
		must(t, err)
		defer client.Close()
		if err := client.Ping(ctx).Err(); err != nil {
			return err
		}
		c, err := conn.Dial(ctx, client, "q") // a worker connects in its own way
		if err == nil {
			c.Close()
		}
		return err
	}
	escaped := strings.NewReplacer("\n", "%0A", "+", "%2B", "/", "%2F", " ", "%20").Replace(string(pem))
	for _, options := range []string{
		"ssl_ca_certs=../../tests/certificates/certificate.pem", "ssl_ca_path=../../tests/certificates", "ssl_ca_data=" + escaped,
		"ssl_cert_reqs=none", "ssl_ca_certs=../../tests/certificates/certificate.pem&ssl_check_hostname=no&ssl_min_version=772",
	} {
		for _, host := range []string{"127.0.0.1", "localhost"} {
			if err := ping(host, options); err != nil {
				t.Errorf("%s %s: %v", host, options, err)
			}
		}
	}
	for _, options := range []string{"", "ssl_check_hostname=no"} {
		if err := ping("127.0.0.1", options); err == nil {
			t.Errorf("%s: nobody vouches for it", options)
		}
	}
}

func TestASentinelThatDoesNotLetUsInEndsTheStart(t *testing.T) {
	port, down := freePort(t), freePort(t)
	config := t.TempDir() + "/sentinel.conf"
	must(t, os.WriteFile(config, []byte(fmt.Sprintf("port %d\nrequirepass inner\nsentinel monitor mine 127.0.0.1 %d 1\n", port, down)), 0o600))
	process := exec.Command(shared.binary, config, "--sentinel")
	must(t, process.Start())
	t.Cleanup(func() { process.Process.Kill(); process.Wait() }) //nolint:errcheck // it may have ended
	single := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + strconv.Itoa(port), Password: "inner"})
	defer single.Close()
	eventually(t, "Sentinel answers", func() bool { return single.Ping(ctx).Err() == nil })
	for _, password := range []string{"", "&sentinel_password=wrong"} {
		client, err := Connect(fmt.Sprintf("redis+sentinel://127.0.0.1:%d,127.0.0.1:%d/mine?client_name=x%s", port, down, password))
		must(t, err)
		queue, err := NewQueue("q", client)
		must(t, err)
		worker, err := NewWorker([]*Queue{queue}, NoSignals())
		must(t, err)
		sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
		must(t, err)
		for _, run := range []func(context.Context) error{worker.Run, sweeper.Run} {
			err := run(soon(t))
			if !errors.Is(err, ErrConfiguration) || !strings.Contains(err.Error(), "see sentinel_password") ||
				!strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "wrong ") {
				t.Error(err)
			}
		}
		client.Close()
	}
	client, err := Connect(fmt.Sprintf("redis+sentinel://127.0.0.1:%d/other?sentinel_password=inner", port))
	must(t, err)
	defer client.Close()
	if err := client.Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "does not know it") {
		t.Error(err)
	}
}

func TestWhoIsNotLetInIsToldAtOnce(t *testing.T) {
	for _, wrong := range []string{"//nobody:hunter2@", "//:hunter2@"} {
		client, err := Connect(strings.Replace(shared.url(), "//", wrong, 1))
		must(t, err)
		defer client.Close()
		queue, err := NewQueue("q", client)
		must(t, err)
		worker, err := NewWorker([]*Queue{queue}, NoSignals())
		must(t, err)
		if err := worker.Run(soon(t)); !errors.Is(err, ErrConfiguration) || strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
		if wrong == "//:hunter2@" {
			continue // go-redis names the default user, whose every password is right where it has none
		}
		_, many := queue.EnqueueMany(ctx, slices.Values([]Task{task("x.Y")}))
		for _, err := range []error{queue.Enqueue(ctx, task("x.Y")), many} {
			if err == nil || !strings.Contains(err.Error(), " does not let us in: ") || !strings.Contains(err.Error(), "://") ||
				strings.Contains(err.Error(), "hunter2") || errors.Is(err, ErrOutcomeUnknown) {
				t.Error(err)
			}
		}
	}
}
