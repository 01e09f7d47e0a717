// Package flags has what the commands share.
package flags

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/delayedq/delayed/interop/delayed"
	"github.com/delayedq/delayed/interop/internal/connect"
)

// Queues adds -redis and -queues to the command line; after flag.Parse, the function that it returns makes the queues.
func Queues() func(...delayed.QueueOption) ([]*delayed.Queue, error) {
	// Its default is nothing, as -h would show it, with its password.
	address := flag.String("redis", "", "where Redis is; else DELAYED_REDIS_URL_FILE, DELAYED_REDIS_URL or REDIS_URL says it, or it "+
		"is redis://localhost:6379/0")
	names := flag.String("queues", cmp.Or(os.Getenv("DELAYED_QUEUES"), "default"), "names of queues, by priority, with commas between them")
	return func(options ...delayed.QueueOption) ([]*delayed.Queue, error) {
		fallback, err := connect.URLOfEnvironment()
		if err != nil && *address == "" {
			return nil, err
		}
		client, err := delayed.Connect(cmp.Or(*address, fallback))
		if err != nil {
			return nil, err
		}
		var queues []*delayed.Queue
		for _, name := range strings.Split(*names, ",") {
			queue, err := delayed.NewQueue(strings.TrimSpace(name), client, options...)
			if err != nil {
				return nil, err
			}
			queues = append(queues, queue)
		}
		return queues, nil
	}
}

// Fail ends the command with a message.
func Fail(err error) {
	fmt.Fprintln(os.Stderr, escaped(err.Error()))
	os.Exit(1)
}

// escaped is text that may quote what others wrote, as one line without control characters.
func escaped(text string) string {
	var line strings.Builder
	for _, r := range text {
		if strconv.IsPrint(r) {
			line.WriteRune(r)
		} else {
			quoted := strconv.QuoteRune(r)
			line.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return line.String()
}
