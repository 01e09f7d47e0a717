// Command golang is our own Go worker in the benchmark: `golang work <concurrency>`.
package main

import (
	"context"
	"log"
	"os"
	"strconv"

	"github.com/delayedq/delayed/interop/delayed"
	"golang.org/x/sys/unix"
)

func main() {
	concurrency, err := strconv.Atoi(os.Args[2])
	check(err)
	client, err := delayed.Connect(os.Getenv("BENCH_REDIS"))
	check(err)
	queue, err := delayed.NewQueue("bench", client)
	check(err)
	worker, err := delayed.NewWorker([]*delayed.Queue{queue}, delayed.Concurrency(concurrency))
	check(err)
	marks := open()
	check(worker.RegisterAs("bench.Mark", func(i int) { marks[i]++ }))
	check(worker.Run(context.Background()))
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
