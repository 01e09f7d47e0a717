package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/delayedq/delayed/interop/conformance"
	"github.com/delayedq/delayed/interop/delayed"
)

// Collect returns what the nodes before it have returned.
func Collect(ctx context.Context) (found any, err error) {
	err = delayed.Previous(ctx, &found)
	return found, err
}

// Unless fails unless there is a key.
func Unless(ctx context.Context, key string) (string, error) {
	client, err := conformance.Client()
	if err != nil {
		return "", err
	}
	return client.Get(ctx, key).Result()
}

// Grow adds so many nodes beside itself, each of which returns 1.
func Grow(ctx context.Context, count int) (int, error) {
	var parts []delayed.Part
	for range count {
		parts = append(parts, delayed.NewGoTask("main.Add", 1, 0))
	}
	_, err := delayed.AddToFlow(ctx, delayed.GroupOf(parts...), "grown")
	return count, err
}

// flowCall is a node, in a queue.
type flowCall struct {
	Path, Queue string
	Go          bool
	Args        []any
}

// flowRequest is a workflow to submit, or what to do with one that was.
type flowRequest struct {
	Steps   [][]flowCall // each after the one before it, each a group; one without calls waits for the signal
	Policy  string
	Signal  string
	ID      string
	Do      string // wait, nodes, value, signal, cancel, or a RetryMode
	Node    string
	Payload any
}

// flowReply is what became of it.
type flowReply struct {
	ID    string   `json:"id"`
	State string   `json:"state"`
	Nodes []string `json:"nodes"` // their states
	Value any      `json:"value"`
	Count int      `json:"count"`
	Error string   `json:"error"`
}

// flows does one thing with a workflow whose home is a queue.
func flows(name string) error {
	queue, err := open(name)
	if err != nil {
		return err
	}
	var r flowRequest
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var said flowReply
	run, err := r.run(ctx, queue)
	if err == nil {
		said.ID = run.ID
		err = r.ask(ctx, run, &said)
	}
	if err != nil {
		said.Error = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

func (r *flowRequest) run(ctx context.Context, home *delayed.Queue) (*delayed.Run, error) {
	if r.ID != "" {
		return home.Run(r.ID)
	}
	flow := delayed.NewFlow(home, "from Go", delayed.OnFailure(cmp.Or(delayed.Policy(r.Policy), delayed.PolicyStop)))
	var last []delayed.Ref
	for _, step := range r.Steps {
		if len(step) == 0 {
			last = []delayed.Ref{flow.Wait(r.Signal, 0, delayed.AfterNodes(last...))}
			continue
		}
		var parts []delayed.Part
		for _, call := range step {
			part := delayed.Part(delayed.NewPyTask(call.Path, call.Args, nil))
			if call.Go {
				part = delayed.NewGoTask(call.Path, call.Args...)
			}
			parts = append(parts, delayed.On(call.Queue, part))
		}
		last = []delayed.Ref{flow.Add(delayed.GroupOf(parts...), delayed.AfterNodes(last...))}
	}
	return flow.Submit(ctx)
}

func (r *flowRequest) ask(ctx context.Context, run *delayed.Run, said *flowReply) (err error) {
	switch r.Do {
	case "":
		return nil
	case "wait":
		var state delayed.State
		state, err = run.Wait(ctx)
		said.State = string(state)
		if err == nil && r.Node != "" {
			err = run.Value(ctx, r.Node, &said.Value)
		}
		return err
	case "nodes":
		for node, err := range run.Nodes(ctx, "") {
			if err != nil {
				return err
			}
			said.Nodes = append(said.Nodes, fmt.Sprint(node.Queue, " ", node.Label, " ", node.State))
		}
		return nil
	case "signal":
		first, err := run.Signal(ctx, r.Signal, r.Payload)
		if first {
			said.Count = 1
		}
		return err
	case "cancel":
		return run.Cancel(ctx)
	}
	said.Count, err = run.Retry(ctx, delayed.RetryMode(r.Do))
	return err
}
