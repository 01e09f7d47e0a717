// Command asynq is the contender of that name in the benchmark: `asynq fill <tasks>`, `asynq work <concurrency>` and `asynq results 0`.
// With BENCH_RESULTS each task is kept for a minute, with its number as its result.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sys/unix"
)

var kept = os.Getenv("BENCH_RESULTS") == "1"

func main() {
	redis, err := asynq.ParseRedisURI(os.Getenv("BENCH_REDIS"))
	check(err)
	number, err := strconv.Atoi(os.Args[2])
	check(err)
	switch os.Args[1] {
	case "fill":
		fill(redis, number)
		return
	case "results":
		results(redis)
		return
	}
	marks := open()
	config := asynq.Config{Concurrency: number, LogLevel: asynq.InfoLevel} // 0: its default, the number of CPUs
	server := asynq.NewServer(redis, config)
	mux := asynq.NewServeMux()
	mux.HandleFunc("mark", func(_ context.Context, task *asynq.Task) error {
		marks[binary.LittleEndian.Uint64(task.Payload())]++
		if kept {
			_, err := task.ResultWriter().Write(task.Payload())
			return err
		}
		return nil
	})
	check(server.Run(mux))
}

// fill enqueues from several goroutines, since asynq has no call for many tasks; one by one from one.
func fill(redis asynq.RedisConnOpt, count int) {
	producers := 16
	if os.Getenv("BENCH_ONE_BY_ONE") == "1" {
		producers = 1
	}
	client := asynq.NewClient(redis)
	defer client.Close()
	ids := make([]string, count)
	var options []asynq.Option
	if kept {
		options = append(options, asynq.Retention(time.Minute))
	}
	var group sync.WaitGroup
	began := time.Now()
	for producer := range producers {
		group.Go(func() {
			for i := producer; i < count; i += producers {
				payload := binary.LittleEndian.AppendUint64(nil, uint64(i))
				info, err := client.Enqueue(asynq.NewTask("mark", payload), options...)
				check(err)
				ids[i] = info.ID
			}
		})
	}
	group.Wait()
	note(notes{Seconds: time.Since(began).Seconds(), IDs: ids})
}

// results notes how many results there are, and their sum.
func results(redis asynq.RedisConnOpt) {
	data, err := os.ReadFile(os.Getenv("BENCH_NOTES"))
	check(err)
	var noted notes
	check(json.Unmarshal(data, &noted))
	inspector := asynq.NewInspector(redis)
	defer inspector.Close()
	var sum uint64
	for _, id := range noted.IDs {
		info, err := inspector.GetTaskInfo("default", id)
		check(err)
		sum += binary.LittleEndian.Uint64(info.Result)
	}
	note(map[string]uint64{"results": uint64(len(noted.IDs)), "sum": sum})
}

// notes is what the harness wants to know of an enqueue.
type notes struct {
	Seconds float64  `json:"seconds"`
	IDs     []string `json:"ids"`
}

// note writes to the file BENCH_NOTES, if there is to be one.
func note(what any) {
	file := os.Getenv("BENCH_NOTES")
	if file == "" {
		return
	}
	data, err := json.Marshal(what)
	check(err)
	check(os.WriteFile(file, data, 0o600))
}

// open maps the file in which each task has a byte that counts how often it ran.
func open() []byte {
	file, err := os.OpenFile(os.Getenv("BENCH_MARKS"), os.O_RDWR, 0)
	check(err)
	about, err := file.Stat()
	check(err)
	marks, err := unix.Mmap(int(file.Fd()), 0, int(about.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	check(err)
	return marks
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
