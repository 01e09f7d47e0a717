package delayed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
)

// What no recover can catch, and what is left behind, in a process of its own: this test program, called again.

type overflows struct{ inner error }

func (o *overflows) Error() string { return o.inner.Error() + "." }

var worst = map[string]any{
	"m.Exit":     func() { os.Exit(0) },
	"m.Kill":     func() { syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }, //nolint:errcheck // it is us
	"m.Overflow": func() error { debug.SetMaxStack(1 << 20); o := &overflows{}; o.inner = o; return o },
	"m.Aside":    func() { go panic("in a goroutine of its own"); select {} },
	"m.Nap":      func() { time.Sleep(time.Minute) },
	"m.Print":    func() { fmt.Fprintln(os.Stderr, "nobody reads this") },
	"m.Leave": func() {
		go func() { select {} }()
		go func() {
			for {
				time.Sleep(time.Nanosecond)
			}
		}()
	},
}

func init() {
	address := os.Getenv("DELAYED_TEST_WORKER")
	if address == "" {
		return
	}
	client, err := Connect(address)
	fatal(err)
	queue, err := NewQueue(os.Getenv("DELAYED_TEST_QUEUE"), client, DequeueTimeout(300*time.Millisecond))
	fatal(err)
	worker, err := NewWorker([]*Queue{queue}, TTL(time.Second), Beat(200*time.Millisecond), Grace(300*time.Millisecond), Concurrency(2))
	fatal(err)
	for path, function := range worst {
		fatal(worker.RegisterAs(path, function))
	}
	fatal(worker.Run(context.Background()))
	os.Exit(0)
}

func fatal(err error) {
	if err != nil {
		os.Exit(1)
	}
}

// broughtBack runs a worker with these functions in a process of its own.
func broughtBack(t *testing.T, queue *Queue, stderr *os.File) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), "DELAYED_TEST_WORKER="+shared.url(), "DELAYED_TEST_QUEUE="+queue.Name())
	if p.Stderr = p; stderr != nil {
		p.Stdout, p.Stderr = stderr, stderr
	}
	must(t, p.Start())
	t.Cleanup(func() {
		p.Process.Kill() //nolint:errcheck // it may have ended
		p.Wait()         //nolint:errcheck // likewise
	})
	return p
}

func TestWhateverEndsTheProcessIsALoss(t *testing.T) {
	for _, path := range []string{"m.Exit", "m.Kill", "m.Overflow", "m.Aside"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			queue := newQueue(t)
			handle := submit(t, queue, NewGoTask(path).With(ResultTTL(time.Minute)))
			sweeper, err := NewSweeper([]*Queue{queue}, SweeperNoSignals())
			must(t, err)
			for range 3 {
				broughtBack(t, queue, nil).status(t)
				eventually(t, "the loss is counted", func() bool {
					must(t, sweeper.Sweep(ctx))
					return queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() == 0
				})
			}
			letters := deadLetters(t, queue)
			if len(letters) != 1 || letters[0].reason != string(Lost) {
				t.Fatalf("%q", letters)
			}
			var failure *TaskFailed
			if err := handle.Result(soon(t), nil); !errors.As(err, &failure) || failure.Kind != string(Lost) {
				t.Error(err)
			}
		})
	}
}

// blocked is a pipe that is full, and that nobody reads.
func blocked(t *testing.T) *os.File {
	t.Helper()
	var ends [2]int
	must(t, syscall.Pipe2(ends[:], syscall.O_CLOEXEC))
	must(t, syscall.SetNonblock(ends[1], true))
	for chunk := make([]byte, 4096); len(chunk) > 0; {
		if _, err := syscall.Write(ends[1], chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	must(t, syscall.SetNonblock(ends[1], false))
	reader, writer := os.NewFile(uintptr(ends[0]), "reader"), os.NewFile(uintptr(ends[1]), "writer")
	t.Cleanup(func() { reader.Close(); writer.Close() })
	return writer
}

// A log that nobody reads (a stuck collector, a stopped terminal) keeps no worker from leaving, and none from beating.
func TestABlockedLogKeepsNoWorker(t *testing.T) {
	for name, c := range map[string]struct {
		task    *GoTask
		signals int
		status  int
		waits   int64
	}{
		"the grace":         {NewGoTask("m.Nap"), 1, exitForced, 1},
		"a second signal":   {NewGoTask("m.Nap"), 2, exitForced, 1},
		"a hard timeout":    {NewGoTask("m.Nap").With(HardTimeout(300 * time.Millisecond)), 0, exitForced, 0},
		"a task that waits": {NewGoTask("m.Print"), 1, exitForced, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue := newQueue(t)
			enqueue(t, queue, c.task)
			worker := broughtBack(t, queue, blocked(t))
			held := func() int64 { return queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() }
			eventually(t, "it runs", func() bool { return held() == 1 || len(deadLetters(t, queue)) == 1 })
			if c.signals > 0 {
				turned(t, queue, 1)
			}
			for range c.signals {
				worker.signal(t, syscall.SIGTERM)
			}
			if status := worker.status(t); status != c.status {
				t.Errorf("status %d", status)
			}
			if n, err := queue.Len(ctx); n != int(c.waits) || err != nil || held() != 0 || len(deadLetters(t, queue)) != 1-int(c.waits) {
				t.Error(n, err, held(), deadLetters(t, queue))
			}
		})
	}
}

func TestGoroutinesLeftBehindKeepNoWorker(t *testing.T) {
	queue := newQueue(t)
	enqueue(t, queue, NewGoTask("m.Leave"))
	worker := broughtBack(t, queue, nil)
	eventually(t, "it has run", func() bool {
		n, err := queue.Len(ctx)
		return n == 0 && err == nil && queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() == 0 && queue.store.Client.HLen(ctx, queue.store.Keys.Workers).Val() == 1
	})
	worker.signal(t, syscall.SIGTERM)
	if status := worker.status(t); status != 0 || !clean(t, queue) {
		t.Error(status)
	}
}

// A goodbye that Redis does not answer ends all the same.
func TestALeavingWorkerIsWatched(t *testing.T) {
	redisServer := own(t)
	queue := queueOn(t, redisServer)
	worker := newWorker(t, queue, nil)
	left := make(chan int, 2)
	worker.withSignals, worker.lastWords, worker.exit = true, 50*time.Millisecond, func(status int) { left <- status }
	done := background(func() { worker.Run(ctx) }) //nolint:errcheck // it is ErrForced or nil
	eventually(t, "it works", func() bool { return queue.store.Client.HLen(ctx, queue.store.Keys.Workers).Val() == 1 })
	must(t, redisServer.process.Process.Signal(syscall.SIGSTOP))
	worker.stopNow()
	select {
	case status := <-left:
		if status != exitForced {
			t.Error(status)
		}
	case <-soon(t).Done():
		t.Error("it does not leave")
	}
	must(t, redisServer.process.Process.Signal(syscall.SIGCONT))
	<-done
}
