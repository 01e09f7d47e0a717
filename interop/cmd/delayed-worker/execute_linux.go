package main

import (
	"os"

	"github.com/delayedq/delayed/interop/cmd/internal/storm"
)

func init() {
	functions = append(functions, Execute)
	if os.Getenv("DELAYED_STORM_HALF") == "" {
		functions = append(functions, ExecuteNew)
	}
}

// Execute notes that a task begins, takes a while, and notes that it ends: the task of scripts/chaos.
func Execute(number uint32, microseconds int) error { return storm.Execute(number, microseconds) }

// ExecuteNew is as Execute. Workers that know only half of the functions have not heard of it.
func ExecuteNew(number uint32, microseconds int) error { return Execute(number, microseconds) }
