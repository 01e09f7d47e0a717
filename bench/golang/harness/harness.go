// Package harness has what the programs of the benchmark have in common.
package harness

import (
	"log"
	"os"

	"golang.org/x/sys/unix"
)

// Marks maps the file in which each task has a byte that counts how often it ran.
func Marks() []byte {
	file, err := os.OpenFile(os.Getenv("BENCH_MARKS"), os.O_RDWR, 0)
	Check(err)
	about, err := file.Stat()
	Check(err)
	marks, err := unix.Mmap(int(file.Fd()), 0, int(about.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	Check(err)
	return marks
}

// Check ends the program if something went wrong.
func Check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
