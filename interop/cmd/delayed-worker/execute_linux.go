package main

import (
	"errors"
	"os"

	"github.com/delayedq/delayed/interop/cmd/internal/storm"
)

var errMeant = errors.New("it is meant to")

func init() {
	functions = append(functions, Execute, ExecuteAndFail)
	if os.Getenv("DELAYED_STORM_HALF") == "" {
		functions = append(functions, ExecuteNew)
	}
}

// Execute notes that a task begins, takes a while, and notes that it ends: the task of scripts/chaos.
func Execute(number uint32, microseconds int) error { return storm.Execute(number, microseconds) }

// ExecuteAndFail is as Execute, and then fails: a node of scripts/chaos --joins.
func ExecuteAndFail(number uint32, microseconds int) error {
	return errors.Join(Execute(number, microseconds), errMeant)
}

// ExecuteNew is as Execute. Workers that know only half of the functions have not heard of it.
func ExecuteNew(number uint32, microseconds int) error { return Execute(number, microseconds) }
