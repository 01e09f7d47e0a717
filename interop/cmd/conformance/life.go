package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"

	"github.com/delayedq/delayed/interop/delayed"
)

// Add returns a sum.
func Add(a, b int) int { return a + b }

// Order takes values that MessagePack has no form of its own for, and returns them.
func Order(total *big.Rat, id [16]byte, day time.Time, opens delayed.TimeOfDay, within time.Duration, file string,
	tags map[string]bool) []any {
	texts := delayed.Set{}
	for tag := range tags {
		texts = append(texts, tag)
	}
	return []any{
		delayed.Decimal(total.FloatString(2)), delayed.UUID(id), delayed.DateOf(day), opens, delayed.Duration(within), delayed.Path(file), texts,
	}
}

// FailUntil fails before its attempt number so many, and returns that.
func FailUntil(ctx context.Context, attempts int) (int, error) {
	if attempt := delayed.CurrentTask(ctx).Attempt; attempt < attempts {
		return 0, fmt.Errorf("attempt %d", attempt)
	}
	return attempts, nil
}

// UntilCancelled says that it has begun, and waits until somebody cancels it, or its time is over.
func UntilCancelled(ctx context.Context) error {
	if err := delayed.CurrentTask(ctx).Progress(ctx, 1, 0, "waiting"); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// request is a task that asks for more than a call, one in a line.
type request struct {
	Path     string
	Go       bool
	Args     []any
	Retry    int
	Pause    float64 // seconds, of a constant back-off
	After    float64 // seconds
	Unique   string
	Join     bool
	Wait     bool   // for the result
	ID       string // of a task that is there already: …
	CancelIt bool   // … cancel it, or else wait for it
}

// reply is what became of it, one in a line.
type reply struct {
	ID        string `json:"id"`
	Duplicate string `json:"duplicate"`
	State     string `json:"state"`
	Value     any    `json:"value"`
	Kind      string `json:"kind"`
	Message   string `json:"message"`
	Error     string `json:"error"`
}

// ask submits tasks to a queue, and says what became of them.
func ask(name string) error {
	queue, err := open(name)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(r.answer(queue)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (r *request) answer(queue *delayed.Queue) (said reply) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var err error
	handle := queue.Handle(r.ID)
	if r.ID == "" {
		handle, err = queue.Submit(ctx, r.task())
	}
	if err == nil && r.CancelIt {
		var state delayed.State
		state, err = handle.Cancel(ctx)
		said.State = string(state)
	} else if err == nil && r.Wait {
		err = handle.Result(ctx, &said.Value)
	}
	var duplicate *delayed.Duplicate
	var failed *delayed.TaskFailed
	switch {
	case errors.As(err, &duplicate):
		said.Duplicate = duplicate.ID
	case errors.As(err, &failed):
		said.Kind, said.Message = failed.Kind, failed.Message
	case err != nil:
		said.Error = err.Error()
	}
	if handle != nil {
		said.ID = handle.ID
	}
	return said
}

func (r *request) task() delayed.Task {
	options := []delayed.TaskOption{delayed.Retry(r.Retry), delayed.ResultTTL(time.Minute)}
	if r.Pause > 0 {
		options = append(options, delayed.Backoff(delayed.Constant(seconds(r.Pause))))
	}
	if r.After > 0 {
		options = append(options, delayed.After(seconds(r.After)))
	}
	if r.Unique != "" {
		options = append(options, delayed.Unique(r.Unique, delayed.UntilDone, 24*time.Hour))
	}
	if r.Join {
		options = append(options, delayed.Join())
	}
	if r.Go {
		return delayed.NewGoTask(r.Path, r.Args...).With(options...)
	}
	return delayed.NewPyTask(r.Path, r.Args, nil, options...)
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
