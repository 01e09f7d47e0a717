// Command asynq is the contender of that name in the benchmark: `asynq fill <tasks>` and `asynq work <concurrency>`.
package main

import (
	"context"
	"encoding/binary"
	"log"
	"os"
	"strconv"
	"sync"

	"github.com/hibiken/asynq"
	"golang.org/x/sys/unix"
)

func main() {
	redis, err := asynq.ParseRedisURI(os.Getenv("BENCH_REDIS"))
	check(err)
	number, err := strconv.Atoi(os.Args[2])
	check(err)
	if os.Args[1] == "fill" {
		fill(redis, number)
		return
	}
	marks := open()
	config := asynq.Config{Concurrency: number, LogLevel: asynq.InfoLevel} // 0: its default, the number of CPUs
	server := asynq.NewServer(redis, config)
	mux := asynq.NewServeMux()
	mux.HandleFunc("mark", func(_ context.Context, task *asynq.Task) error {
		marks[binary.LittleEndian.Uint64(task.Payload())]++
		return nil
	})
	check(server.Run(mux))
}

// fill enqueues from several goroutines, since asynq has no call for many tasks.
func fill(redis asynq.RedisConnOpt, count int) {
	const producers = 16
	client := asynq.NewClient(redis)
	defer client.Close()
	var group sync.WaitGroup
	for producer := range producers {
		group.Go(func() {
			for i := producer; i < count; i += producers {
				payload := binary.LittleEndian.AppendUint64(nil, uint64(i))
				_, err := client.Enqueue(asynq.NewTask("mark", payload))
				check(err)
			}
		})
	}
	group.Wait()
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
