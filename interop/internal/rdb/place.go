package rdb

import (
	"fmt"
	"os"
)

// Place names this process for humans: host:pid.
func Place() string {
	host, _ := os.Hostname() //nolint:errcheck // it is for humans
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}
