package delayed

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// What it had in hand when it was suspended for longer than its leases live is others' by now.
func TestASuspendedWorkerBeginsNothingThatItHeld(t *testing.T) {
	queue, path := newQueue(t), filepath.Join(t.TempDir(), "log")
	const count = 20000
	_, err := queue.EnqueueMany(ctx, many(count, func(i int) Task { return NewGoTask("main.Log", path, i) }))
	must(t, err)
	left := func() int {
		waiting, err := queue.Len(ctx)
		must(t, err)
		return waiting
	}
	// Its lease outlives what a loaded machine keeps a process waiting for, or it would be suspended twice.
	first := run(t, queue, "delayed-worker", "-ttl", "3s", "-beat", "200ms")
	eventually(t, "it is in full swing", func() bool { return left() <= count*2/3 })
	eventually(t, "it is stopped with tasks in hand", func() bool {
		first.signal(t, syscall.SIGSTOP)
		holds := queue.store.Client.HLen(ctx, queue.store.Keys.Processing).Val() > 0
		if !holds {
			first.signal(t, syscall.SIGCONT)
		}
		return holds
	})
	if left() == 0 {
		t.Fatal("it was too late")
	}
	run(t, queue, "delayed-sweeper", "-interval", "100ms")
	run(t, queue, "delayed-worker")
	eventually(t, "others have run all", func() bool {
		return queue.store.Client.Exists(ctx, queue.store.Keys.Processing, queue.Name()).Val() == 0
	})
	first.signal(t, syscall.SIGCONT)
	eventually(t, "it lives", func() bool { return queue.store.Client.HLen(ctx, queue.store.Keys.Workers).Val() == 3 })
	first.signal(t, syscall.SIGTERM)
	if status := first.status(t); status != 0 {
		t.Error(status)
	}
	if ran, most := len(logged(t, path)), count+1; ran < count || ran > most {
		t.Errorf("%d ran", ran)
	}
}

func logged(t *testing.T, path string) []uint64 {
	t.Helper()
	log, err := os.ReadFile(path)
	must(t, err)
	numbers := make([]uint64, len(log)/8)
	for i := range numbers {
		numbers[i] = binary.BigEndian.Uint64(log[8*i:])
	}
	return numbers
}

// Each ending is written before its slot begins another task, over a connection on which no reply waits: so a killed worker repeats
// what it was executing, and not what it held or had done.
func TestAKilledWorkerRepeatsOnlyWhatItExecuted(t *testing.T) {
	kills := 20
	if testing.Short() {
		kills = 3
	}
	if text := os.Getenv("DELAYED_TEST_KILLS"); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		must(t, err)
	}
	for _, concurrency := range []int{1, 4} {
		t.Run(strconv.Itoa(concurrency), func(t *testing.T) {
			queue, path := newQueue(t), filepath.Join(t.TempDir(), "log")
			// So many kills in so short a time may well hit the same task three times: that is not what is tested here.
			sweeper := run(t, queue, "delayed-sweeper", "-interval", "100ms", "-limit", "1000")
			worker := func() *process {
				return run(t, queue, "delayed-worker", "-concurrency", strconv.Itoa(concurrency), "-ttl", "1500ms", "-beat", "100ms") // as above
			}
			random := rand.New(rand.NewPCG(1, uint64(kills)))
			count := 0
			for range kills {
				_, err := queue.EnqueueMany(ctx, many(10000, func(i int) Task { return NewGoTask("main.Log", path, count+i) }))
				must(t, err)
				count += 10000
				waiting, err := queue.Len(ctx)
				must(t, err)
				some := random.IntN(waiting)
				victim := worker()
				eventually(t, "it is in full swing", func() bool {
					waiting, err := queue.Len(ctx)
					must(t, err)
					return waiting <= some
				})
				victim.signal(t, syscall.SIGKILL)
				victim.status(t)
			}
			worker()
			eventually(t, "all are released", func() bool {
				return queue.store.Client.Exists(ctx, queue.store.Keys.Processing, queue.Name()).Val() == 0
			})
			sweeper.signal(t, syscall.SIGTERM)
			numbers := logged(t, path)
			ran := make([]int, count)
			for _, number := range numbers {
				ran[number]++
			}
			lost := 0
			for _, times := range ran {
				if times == 0 {
					lost++
				}
			}
			repeated := len(numbers) - count + lost
			t.Logf("%d kills, %d tasks, %d lost, %d repeated", kills, count, lost, repeated)
			if letters := deadLetters(t, queue); lost > 0 || repeated > kills*concurrency || len(letters) > 0 {
				t.Error(letters)
			}
		})
	}
}
