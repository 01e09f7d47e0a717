// Package storm is what the programs have that scripts/chaos kills.
package storm

import (
	"encoding/binary"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const byGo = 16

// notes is the file that $DELAYED_STORM_NOTES names; chaos/notes.py has its format.
var notes = sync.OnceValues(func() (*os.File, error) {
	return os.OpenFile(os.Getenv("DELAYED_STORM_NOTES"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
})

var started = monotonic()

// monotonic is CLOCK_MONOTONIC, which all processes of a host share, in nanoseconds; Go does not tell it otherwise.
func monotonic() uint64 {
	const clockMonotonic = 1
	var now syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0) //nolint:errcheck // it cannot fail
	return uint64(now.Nano())
}

// Note appends a record: what has happened, and to which task.
func Note(kind, number uint32) error {
	file, err := notes()
	if err != nil {
		return err
	}
	var record []byte
	for _, word := range []uint32{number, uint32(os.Getpid()), uint32(os.Getppid()), kind + byGo} {
		record = binary.LittleEndian.AppendUint32(record, word)
	}
	record = binary.LittleEndian.AppendUint64(record, monotonic())
	record = binary.LittleEndian.AppendUint64(record, started)
	_, err = file.Write(record)
	return err
}

// Begun and Ended are noted of tasks.
const Begun, Ended = 1, 2

// Execute notes that a task begins, takes a while, and notes that it ends.
func Execute(number uint32, microseconds int) error {
	if err := Note(Begun, number); err != nil {
		return err
	}
	time.Sleep(time.Duration(microseconds) * time.Microsecond)
	return Note(Ended, number)
}
