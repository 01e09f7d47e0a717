package delayed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"
)

const (
	startStops = 25 // times that each is started and stopped
	stoppers   = 4  // that stop it at once
)

// service is what runs until it is stopped.
type service interface {
	Run(ctx context.Context) error
	Stop()
}

// services make what the stress is for, on a queue with tasks.
var services = map[string]func(*testing.T, *Queue) service{
	"worker": func(t *testing.T, queue *Queue) service {
		return newWorker(t, queue, map[string]any{"main.F": func() {}}, Concurrency(2))
	},
	"sweeper": func(t *testing.T, queue *Queue) service {
		sweeper, err := NewSweeper([]*Queue{queue}, SweepInterval(time.Millisecond), SweeperNoSignals(),
			SweeperLogger(slog.New(slog.DiscardHandler)))
		must(t, err)
		return sweeper
	},
}

// ends waits until Run has returned.
func ends(t *testing.T, ran <-chan error) error {
	t.Helper()
	select {
	case err := <-ran:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it does not stop")
		return nil
	}
}

// begin lets it run, and says how that has ended.
func begin(ctx context.Context, s service) <-chan error {
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	return ran
}

// stopAtOnce stops it from several goroutines, twice each.
func stopAtOnce(s service) {
	var all sync.WaitGroup
	for range stoppers {
		all.Go(func() { s.Stop(); s.Stop() })
	}
	all.Wait()
}

func isRegistered(queue *Queue) bool {
	return queue.store.Client.HLen(ctx, queue.store.Keys.Workers).Val() > 0
}

func TestStartAndStop(t *testing.T) {
	for name, make := range services {
		for how, stress := range map[string]func(*testing.T, *Queue, service){
			"stopped before it starts": func(t *testing.T, _ *Queue, s service) {
				stopAtOnce(s)
				must(t, ends(t, begin(ctx, s)))
			},
			"stopped while it starts": func(t *testing.T, _ *Queue, s service) {
				ran := begin(ctx, s)
				stopAtOnce(s)
				must(t, ends(t, ran))
			},
			"stopped when it works": func(t *testing.T, queue *Queue, s service) {
				ran := begin(ctx, s)
				eventually(t, "it is in the register", func() bool { return isRegistered(queue) })
				stopAtOnce(s)
				must(t, ends(t, ran))
			},
			"stopped when it has ended": func(t *testing.T, _ *Queue, s service) {
				ran := begin(ctx, s)
				s.Stop()
				must(t, ends(t, ran))
				stopAtOnce(s)
			},
			"its context is done, and it is stopped": func(t *testing.T, _ *Queue, s service) {
				living, end := context.WithCancel(ctx)
				ran := begin(living, s)
				go end()
				stopAtOnce(s)
				must(t, ends(t, ran))
			},
			"started twice": func(t *testing.T, _ *Queue, s service) {
				first, second := begin(ctx, s), begin(ctx, s)
				var refusal error
				var others <-chan error
				select {
				case refusal = <-first:
					others = second
				case refusal = <-second:
					others = first
				}
				if !errors.Is(refusal, ErrConfiguration) {
					t.Error(refusal)
				}
				s.Stop()
				must(t, ends(t, others))
			},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				for range startStops {
					queue := newQueue(t)
					enqueue(t, queue, NewGoTask("main.F"), NewGoTask("main.F"))
					stress(t, queue, make(t, queue))
					if isRegistered(queue) || queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() > 0 {
						t.Error("it has left something behind")
					}
				}
			})
		}
	}
}

func TestATaskStopsItsOwnWorker(t *testing.T) {
	for range startStops {
		queue := newQueue(t)
		worker := newWorker(t, queue, nil, Concurrency(2))
		must(t, worker.RegisterAs("main.Stop", worker.Stop))
		enqueue(t, queue, NewGoTask("main.Stop"), NewGoTask("main.Stop"))
		must(t, ends(t, begin(ctx, worker)))
	}
}
