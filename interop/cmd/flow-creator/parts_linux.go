package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/delayedq/delayed/interop/delayed"
)

// workflow is what chaos/joins/recorder.py writes.
type workflow struct {
	Queue, Name, Policy, Unique string
	First                       uint32 // number of its first node
	Success, Complete, Failure  []part
	Steps                       []step
	Signals                     []string
	Cancelled                   bool
}

// step adds a part, or maps one over a step, or waits for a signal or some time.
type step struct {
	Add     *part
	Map     *part
	Over    int
	Wait    *string
	Timeout float64 // seconds
	After   []int
	When    string
	Quorum  int
}

// part is a call, or has parts.
type part struct {
	Py, Go    string
	Args      []any
	Retry     int
	On        string
	Part      *part
	Chain     []part
	Group     *[]part
	Linked    *part
	OnSuccess []part
	OnError   []part
}

func (w workflow) flow(home *delayed.Queue) (*delayed.Flow, error) {
	f := delayed.NewFlow(home, w.Name, delayed.OnFailure(delayed.Policy(w.Policy)), delayed.FlowUnique(w.Unique), delayed.FlowJoin(),
		delayed.ThenSuccess(partsOf(w.Success)...), delayed.ThenComplete(partsOf(w.Complete)...), delayed.ThenFailure(partsOf(w.Failure)...))
	var refs []delayed.Ref
	for _, each := range w.Steps {
		var options []delayed.NodeOption
		for _, ref := range each.After {
			options = append(options, delayed.AfterNodes(refs[ref]))
		}
		if each.Quorum > 0 {
			options = append(options, delayed.When(delayed.Quorum(each.Quorum)))
		} else if each.When != "" {
			options = append(options, delayed.When(delayed.Policy(each.When)))
		}
		switch {
		case each.Add != nil:
			refs = append(refs, f.Add(each.Add.of(), options...))
		case each.Map != nil:
			refs = append(refs, f.Map(each.Map.of(), refs[each.Over], options...))
		case each.Wait != nil:
			refs = append(refs, f.Wait(*each.Wait, time.Duration(each.Timeout*float64(time.Second)), options...))
		default:
			return nil, fmt.Errorf("step %d is none", len(refs))
		}
	}
	return f, nil
}

func partsOf(some []part) []delayed.Part {
	parts := make([]delayed.Part, len(some))
	for i, each := range some {
		parts[i] = each.of()
	}
	return parts
}

func (p part) of() delayed.Part {
	switch {
	case p.Chain != nil:
		return delayed.ChainOf(partsOf(p.Chain)...)
	case p.Group != nil:
		return delayed.GroupOf(partsOf(*p.Group)...)
	case p.Linked != nil:
		return delayed.Linked(p.Linked.of(), partsOf(p.OnSuccess), partsOf(p.OnError))
	case p.Part != nil:
		return delayed.On(p.On, p.Part.of())
	}
	args := make([]any, len(p.Args))
	for i, arg := range p.Args {
		args[i] = arg
		if number, ok := arg.(json.Number); ok {
			args[i], _ = number.Int64() //nolint:errcheck // they are whole ones
		}
	}
	var options []delayed.TaskOption
	if p.Retry > 0 {
		options = append(options, delayed.Retry(p.Retry))
	}
	if p.Py != "" {
		return delayed.NewPyTask(p.Py, args, nil, options...)
	}
	return delayed.NewGoTask(p.Go, args...).With(options...)
}
