package delayed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/vmihailenco/msgpack/v5"
)

// process is a real worker or sweeper, and what it has logged.
type process struct {
	*exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(text)
}

func (p *process) logged(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.log.String(), text)
}

func run(t *testing.T, queue *Queue, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(command(t, name), append([]string{"-redis", shared.url(), "-queues", queue.Name()}, args...)...)}
	p.Stderr = p
	must(t, p.Start())
	t.Cleanup(func() {
		p.Process.Kill() //nolint:errcheck // it may have ended
		p.Wait()         //nolint:errcheck // likewise
		if t.Failed() {
			t.Logf("%s: %s", name, p.log.String())
		}
	})
	return p
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	must(t, p.Process.Signal(s))
}

// status waits for the end, and says how it was.
func (p *process) status(t *testing.T) int {
	t.Helper()
	select {
	case <-background(func() { p.Wait() }): //nolint:errcheck // the state says it
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	return p.ProcessState.ExitCode()
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(strings.ReplaceAll(string(text), " ", "-"))
}

func begun(t *testing.T, path string) {
	t.Helper()
	eventually(t, "the task has begun", func() bool { return len(lines(t, path)) > 0 })
}

func TestAKilledWorkersTaskComesBack(t *testing.T) {
	queue, path := newQueue(t), filepath.Join(t.TempDir(), "log")
	enqueue(t, queue, NewGoTask("main.SleepAppend", path, "x", 1.0))
	for range 20 {
		enqueue(t, queue, NewGoTask("main.Append", path, "y"))
	}
	first := run(t, queue, "delayed-worker", "-ttl", "500ms", "-beat", "100ms")
	begun(t, path)
	first.signal(t, syscall.SIGKILL)
	first.status(t)
	sweeper := run(t, queue, "delayed-sweeper", "-interval", "100ms")
	run(t, queue, "delayed-worker", "-ttl", "500ms", "-beat", "100ms", "-concurrency", "2")
	eventually(t, "it ran again", func() bool { return slices.Contains(lines(t, path), "x-ends") && len(lines(t, path)) == 23 })
	sweeper.signal(t, syscall.SIGTERM)
	if status := sweeper.status(t); status != 0 {
		t.Errorf("the sweeper ended with %d", status)
	}
	stats := queue.store.Client.HGetAll(ctx, queue.store.Keys.Stats).Val()
	eventually(t, "success has cleared the count", func() bool { return queue.store.Client.Exists(ctx, queue.store.Keys.Lost).Val() == 0 })
	if stats["recovered"] == "" {
		t.Error(stats)
	}
}

func TestATaskThatKillsItsWorkerIsBuried(t *testing.T) {
	queue := newQueue(t)
	enqueue(t, queue, NewGoTask("main.Die"))
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
	must(t, err)
	for range 3 {
		taken, err := queue.store.Take(ctx, []string{"x"}, rdb.TakeOptions{TTL: time.Minute, Waiting: true})
		if err != nil || len(taken.Tasks) != 1 {
			t.Fatal(taken, err)
		}
		must(t, queue.store.Client.Del(ctx, "x").Err())
		must(t, sweeper.Sweep(ctx))
	}
	if letters := deadLetters(t, queue); len(letters) != 1 || letters[0].reason != "lost" {
		t.Error(letters)
	}
}

func TestGracefulSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			queue, path := newQueue(t), filepath.Join(t.TempDir(), "log")
			enqueue(t, queue, NewGoTask("main.SleepAppend", path, "x", 0.5), NewGoTask("main.Append", path, "y"))
			worker := run(t, queue, "delayed-worker")
			begun(t, path)
			worker.signal(t, s)
			if status := worker.status(t); status != 0 {
				t.Errorf("status %d", status)
			}
			if got := lines(t, path); !slices.Equal(got, []string{"x-begins", "x-ends"}) {
				t.Error(got)
			}
			keys := keysLeft(queue)
			slices.Sort(keys)
			if !slices.Equal(keys, []string{queue.Name(), queue.store.Keys.Noti}) { // U3: the finished task is released
				t.Error(keys)
			}
		})
	}
}

func TestForcedSignals(t *testing.T) {
	cases := map[string][]syscall.Signal{
		"QUIT":       {syscall.SIGQUIT},
		"TERM twice": {syscall.SIGTERM, syscall.SIGTERM},
		"INT, TERM":  {syscall.SIGINT, syscall.SIGTERM},
		"grace":      {syscall.SIGTERM},
	}
	for name, signals := range cases {
		t.Run(name, func(t *testing.T) {
			queue, path := newQueue(t), filepath.Join(t.TempDir(), "log")
			enqueue(t, queue, NewGoTask("main.SleepAppend", path, "x", 60.0))
			grace := "25s"
			if name == "grace" {
				grace = "100ms"
			}
			worker := run(t, queue, "delayed-worker", "-grace", grace)
			begun(t, path)
			for i, s := range signals {
				worker.signal(t, s)
				if i < len(signals)-1 {
					eventually(t, "it is asked", func() bool { return worker.logged("finishing what runs") })
				}
			}
			if status := worker.status(t); status != exitForced {
				t.Errorf("status %d", status)
			}
			if n, err := queue.Len(ctx); n != 1 || err != nil {
				t.Error(n, err)
			}
			if n := queue.store.Client.Exists(ctx, queue.store.Keys.Processing, queue.store.Keys.Workers, queue.store.Keys.Lost).Val(); n != 0 {
				t.Error("traces are left")
			}
		})
	}
}

func TestStacksOnRequest(t *testing.T) {
	queue, path := newQueue(t), filepath.Join(t.TempDir(), "log")
	enqueue(t, queue, NewGoTask("main.SleepAppend", path, "x", 60.0))
	worker := run(t, queue, "delayed-worker")
	begun(t, path)
	worker.signal(t, syscall.SIGUSR1)
	eventually(t, "the stacks are logged", func() bool { return worker.logged("main.SleepAppend(") })
}

func TestASuspendedWorkerIsSuperseded(t *testing.T) { // U6
	queue, path := newQueue(t), filepath.Join(t.TempDir(), "log")
	enqueue(t, queue, NewGoTask("main.SleepAppend", path, "x", 0.3))
	first := run(t, queue, "delayed-worker", "-ttl", "300ms", "-beat", "100ms")
	begun(t, path)
	first.signal(t, syscall.SIGSTOP)
	sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
	must(t, err)
	eventually(t, "the task is swept", func() bool {
		must(t, sweeper.Sweep(ctx))
		n, err := queue.Len(ctx)
		must(t, err)
		return n == 1
	})
	taken, err := queue.store.Take(ctx, []string{queue.Name() + "_lease_other"}, rdb.TakeOptions{TTL: time.Minute, Waiting: true})
	must(t, err)
	first.signal(t, syscall.SIGCONT)
	eventually(t, "it says so", func() bool { return first.logged("superseded: the lease") })
	if len(taken.Tasks) != 1 || queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() != 1 {
		t.Error("it ended a lease that is not its own")
	}
}

func TestSha256File(t *testing.T) {
	queue, path := newQueue(t), filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte("hello"), 0o600))
	key := queue.Name() + "_results"
	enqueue(t, queue, NewGoTask("main.Sha256File", path, shared.url(), key))
	if status := run(t, queue, "delayed-worker", "-burst").status(t); status != 0 {
		t.Fatal(status)
	}
	var result []any
	must(t, msgpack.Unmarshal([]byte(queue.store.Client.LPop(ctx, key).Val()), &result))
	digest := sha256.Sum256([]byte("hello"))
	if len(result) != 3 || result[0] != path || result[2] != hex.EncodeToString(digest[:]) {
		t.Error(result)
	}
}

func TestQuickstart(t *testing.T) {
	for name, program := range map[string]func(*testing.T, string) string{"here": command, "elsewhere": elsewhere} {
		t.Run(name, func(t *testing.T) { greets(t, program(t, "quickstart")) })
	}
}

// elsewhere builds an example as a program of another module, which replaces ours and no other: so it is where a tag of ours is used.
func elsewhere(t *testing.T, name string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	must(t, err)
	program, err := os.ReadFile(filepath.Join("..", "examples", name, "main.go"))
	must(t, err)
	sums, err := os.ReadFile("../../go.sum")
	must(t, err)
	const ours = "github.com/delayedq/delayed"
	module := fmt.Sprintf("module example.com/elsewhere\n\ngo 1.26.0\n\nrequire %s v0.0.0\n\nreplace %s => %s\n", ours, ours, root)
	folder := t.TempDir()
	for file, text := range map[string][]byte{"go.mod": []byte(module), "go.sum": sums, "main.go": program} {
		must(t, os.WriteFile(filepath.Join(folder, file), text, 0o600))
	}
	build := exec.Command("go", "build", "-mod=mod", "-o", name, ".")
	build.Dir, build.Env = folder, append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOPROXY=off") // all else is there already
	output, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return filepath.Join(folder, name)
}

func greets(t *testing.T, binary string) {
	redisServer := own(t)
	client := connectTo(t, redisServer)
	queue, err := NewQueue("go", client)
	must(t, err)
	enqueue(t, queue, NewGoTask("main.Greet", "Ada"))
	p := &process{Cmd: exec.Command(binary)}
	p.Env = append(os.Environ(), "REDIS_URL="+redisServer.url())
	p.Stderr = p
	must(t, p.Start())
	eventually(t, "it greets", func() bool { return p.logged("Hello, Ada!") })
	p.signal(t, syscall.SIGTERM)
	if status := p.status(t); status != 0 {
		t.Error(status, p.log.String())
	}
	if got := client.LRange(ctx, "python", 0, -1).Val(); !slices.Equal(got, []string{"\x92\xaeposixpath:join\x92\xa1a\xa1b"}) {
		t.Errorf("%q", got)
	}
}

func TestNumbersThatMakeNoSenseOnTheCommandLine(t *testing.T) {
	t.Parallel()
	for _, words := range []string{
		"delayed-worker -concurrency 9223372036854775807", "delayed-worker -concurrency -1", "delayed-worker -concurrency 1e3",
		"delayed-worker -beat 2562047h", "delayed-worker -beat -1s", "delayed-worker -ttl 1..2h", "delayed-worker -grace -1ns",
		"delayed-worker -dequeue-timeout 2562047h", "delayed-worker -dequeue-timeout 0", "delayed-worker -dequeue-timeout 9999999999h",
		"delayed-sweeper -interval -1s", "delayed-sweeper -interval 0", "delayed-sweeper -limit 0", "delayed-sweeper -limit 99999999999999999999",
		"delayed-sweeper -dead-max -1", "delayed-sweeper -dead-days NaN", "delayed-sweeper -dead-days Inf", "delayed-sweeper -dead-days 1e300",
		"delayed-sweeper -dead-days 200000", "delayed-sweeper -dead-days -1",
	} {
		args := strings.Fields(words)
		binary := command(t, args[0])
		limited, cancel := context.WithTimeout(ctx, time.Minute) // one that is taken lets a process run
		said, err := exec.CommandContext(limited, binary, append([]string{"-redis", shared.url()}, args[1:]...)...).CombinedOutput()
		cancel()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() > 2 || strings.Contains(string(said), "goroutine ") {
			t.Errorf("%s: %v\n%s", words, err, said)
		}
	}
}
