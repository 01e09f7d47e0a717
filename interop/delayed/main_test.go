package delayed

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

// redisServer is a private real Redis: one for all tests, or one that a test may kill.
type redisServer struct {
	binary  string
	folder  string
	process *exec.Cmd
	fsync   string // of its append-only file
}

func (s *redisServer) url() string { return "unix://" + s.socket() }

func (s *redisServer) socket() string { return filepath.Join(s.folder, "redis.sock") }

func (s *redisServer) start(persistent bool) error {
	args := []string{"--port", "0", "--unixsocket", s.socket(), "--dir", s.folder, "--save", ""}
	if persistent {
		args = append(args, "--appendonly", "yes", "--appendfsync", s.fsync)
	} else {
		args = append(args, "--appendonly", "no")
	}
	s.process = exec.Command(s.binary, args...)
	if err := s.process.Start(); err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket(), MaxRetries: -1})
	defer client.Close()
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := client.Ping(context.Background()).Err()
		if err == nil || time.Now().After(until) {
			return err
		}
	}
}

func (s *redisServer) kill() {
	s.process.Process.Kill() //nolint:errcheck // it may be dead already
	s.process.Wait()         //nolint:errcheck // it was killed
}

var shared *redisServer

func TestMain(m *testing.M) {
	os.Exit(withServer(m))
}

func withServer(m *testing.M) int {
	binary := findServer()
	if binary == "" {
		message := "no redis-server or valkey-server on PATH, and DELAYED_REDIS_SERVER names none"
		if os.Getenv("CI") != "" || os.Getenv("DELAYED_REDIS_SERVER") != "" {
			fmt.Fprintln(os.Stderr, message)
			return 1
		}
		fmt.Fprintln(os.Stderr, "skipped:", message)
		return 0
	}
	folder, err := os.MkdirTemp("", "delayed")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	shared = &redisServer{binary: binary, folder: folder}
	if err := shared.start(false); err != nil {
		panic(err)
	}
	defer shared.kill()
	return m.Run()
}

func findServer() string {
	names := []string{"redis-server", "valkey-server"}
	if named := os.Getenv("DELAYED_REDIS_SERVER"); named != "" {
		names = []string{named}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// own starts a Redis that the test may kill.
func own(t *testing.T) *redisServer {
	t.Helper()
	return ownSyncing(t, "always")
}

// ownSyncing is own with another appendfsync: with "no", what it has replied to outlives it, but not the machine, and no disk that others
// use makes it slow.
func ownSyncing(t *testing.T, fsync string) *redisServer {
	t.Helper()
	folder, err := os.MkdirTemp("", "delayed") // t.TempDir is too long for the path of a socket
	must(t, err)
	s := &redisServer{binary: shared.binary, folder: folder, fsync: fsync}
	must(t, s.start(true))
	t.Cleanup(func() { s.kill(); os.RemoveAll(folder) })
	return s
}

func connectTo(t *testing.T, s *redisServer) redis.UniversalClient {
	t.Helper()
	client, err := Connect(s.url())
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// newQueue has a name that no other test uses.
func newQueue(t *testing.T, options ...QueueOption) *Queue {
	t.Helper()
	return queueOn(t, shared, options...)
}

func queueOn(t *testing.T, s *redisServer, options ...QueueOption) *Queue {
	t.Helper()
	queue, err := NewQueue("q"+rdb.Token(), connectTo(t, s), append([]QueueOption{DequeueTimeout(300 * time.Millisecond)}, options...)...)
	must(t, err)
	return queue
}

// start runs a worker, and stops it at the end of the test.
func start(t *testing.T, queue *Queue, functions map[string]any, options ...WorkerOption) *Worker {
	t.Helper()
	worker := newWorker(t, queue, functions, options...)
	done := background(func() { worker.Run(context.Background()) }) //nolint:errcheck // tests of that look themselves
	t.Cleanup(func() {
		worker.Stop()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("the worker does not stop")
		}
	})
	return worker
}

func newWorker(t *testing.T, queue *Queue, functions map[string]any, options ...WorkerOption) *Worker {
	t.Helper()
	options = append([]WorkerOption{NoSignals(), Logger(slog.New(slog.DiscardHandler))}, options...)
	worker, err := NewWorker([]*Queue{queue}, options...)
	must(t, err)
	for name, function := range functions {
		must(t, worker.RegisterAs(name, function))
	}
	return worker
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func enqueue(t *testing.T, queue *Queue, tasks ...Task) {
	t.Helper()
	for _, task := range tasks {
		must(t, queue.Enqueue(context.Background(), task))
	}
}

// eventually waits until check is true.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for until := time.Now().Add(time.Minute); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// clean reports whether nothing is left of a queue and its workers.
func clean(t *testing.T, queue *Queue) bool {
	t.Helper()
	must(t, queue.store.Client.Ping(context.Background()).Err())
	return len(keysLeft(queue)) == 0
}

type letter struct{ task, reason, detail string }

func deadLetters(t *testing.T, queue *Queue) []letter {
	t.Helper()
	entries, err := queue.store.Client.XRange(context.Background(), queue.store.Keys.Dead, "-", "+").Result()
	must(t, err)
	letters := make([]letter, len(entries))
	for i, entry := range entries {
		letters[i] = letter{entry.Values["task"].(string), entry.Values["reason"].(string), entry.Values["detail"].(string)}
	}
	return letters
}

var build struct {
	sync.Once
	folder string
	err    error
}

// command builds one of the programs in cmd/ or examples/ and says where it is.
func command(t *testing.T, name string) string {
	t.Helper()
	build.Do(func() {
		build.folder = shared.folder
		output, err := exec.Command("go", "build", "-o", build.folder+"/", "../cmd/...", "../examples/...").CombinedOutput()
		if err != nil {
			build.err = fmt.Errorf("%w: %s", err, output)
		}
	})
	must(t, build.err)
	return filepath.Join(build.folder, name)
}

// keysLeft are the keys of a queue, but for its statistics, which stay.
func keysLeft(queue *Queue) []string {
	return slices.DeleteFunc(queue.store.Client.Keys(ctx, queue.Name()+"*").Val(), func(key string) bool {
		return strings.Contains(key, "_stats_")
	})
}
