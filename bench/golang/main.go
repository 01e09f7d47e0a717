// Command golang is our own Go worker in the benchmark: `golang work <concurrency>`; `golang kinds <concurrency> <tasks> <runs> [kind]...`
// compares kinds of tasks with each other.
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
	concurrency := number(2)
	if os.Args[1] == "kinds" {
		compare(concurrency, number(3), number(4), os.Args[5:])
		return
	}
	work(concurrency)
}

func work(concurrency int) {
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

func number(place int) int {
	n, err := strconv.Atoi(os.Args[place])
	check(err)
	return n
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
