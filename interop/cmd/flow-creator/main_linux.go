// Command flow-creator submits one workflow, which it reads from its input (chaos/joins/recorder.py writes that), and kills itself in the
// middle of it if it shall: a creator of the storm over workflows. Exit status 3: somebody who died has begun it, and it has to be
// submitted again later.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/delayedq/delayed/interop/cmd/internal/flags"
	"github.com/delayedq/delayed/interop/cmd/internal/storm"
	"github.com/delayedq/delayed/interop/delayed"
	"github.com/delayedq/delayed/interop/internal/flow"
)

const (
	killed, submitting, submitted = 0, 3, 4 // kinds of notes: chaos/joins/kinds.py
	later                         = 3       // exit status
)

func main() {
	address := flag.String("redis", "127.0.0.1:6379", "host:port of Redis")
	dying := flag.Float64("dying", 0, "share of the packets that it dies at")
	patience := flag.Duration("patience", time.Hour, "after which a workflow is removed of which no further page has come")
	flag.Parse()
	flow.Patience = *patience
	var asked workflow
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber()
	if err := decoder.Decode(&asked); err != nil {
		flags.Fail(err)
	}
	client := redis.NewClient(&redis.Options{Addr: *address, Dialer: mortal(*dying)})
	queue, err := delayed.NewQueue(asked.Queue, client)
	if err == nil {
		err = create(context.Background(), queue, asked)
	}
	if err != nil {
		flags.Fail(err)
	}
}

// create submits the workflow, and sends it its signals, or cancels it.
func create(ctx context.Context, queue *delayed.Queue, asked workflow) error {
	f, err := asked.flow(queue)
	if err != nil {
		return err
	}
	if err := storm.Note(submitting, asked.First); err != nil {
		return err
	}
	run, err := f.Submit(ctx)
	if err != nil {
		return err
	}
	status, err := run.Status(ctx)
	if err != nil {
		return err
	}
	if status.State == delayed.StateBuilding {
		os.Exit(later)
	}
	if err := storm.Note(submitted, asked.First); err != nil {
		return err
	}
	for _, name := range asked.Signals {
		if rand.Float64() < 0.5 {
			if _, err := run.Signal(ctx, name, 1); err != nil {
				return err
			}
		}
	}
	if asked.Cancelled {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		return run.Cancel(ctx)
	}
	return nil
}

// mortal dials connections at whose packets the process dies now and then: before, in the middle of, or after sending one.
func mortal(share float64) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var dialer net.Dialer
		c, err := dialer.DialContext(ctx, network, address)
		return &mortalConn{c, share}, err
	}
}

type mortalConn struct {
	net.Conn
	share float64
}

func (c *mortalConn) Write(data []byte) (int, error) {
	if rand.Float64() >= c.share || !strings.Contains(string(data), "_flow_") {
		return c.Conn.Write(data)
	}
	how := rand.Uint32N(3)
	if part := data[:len(data)*int(how)/2]; len(part) > 0 {
		if n, err := c.Conn.Write(part); err != nil {
			return n, err
		}
	}
	if err := storm.Note(killed, how); err != nil {
		return 0, err
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return 0, err
	}
	select {}
}
