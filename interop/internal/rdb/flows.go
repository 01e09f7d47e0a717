package rdb

import (
	"context"
	"strconv"
	"time"
)

// FlowLook is what is to be done for the workflows of a queue.
type FlowLook struct {
	Pause     time.Duration // until the next is due; below 0 if none is
	Waiting   int           // entries of the outbox
	Due       []string      // whose time is over
	Forgotten []string      // workflows
}

// LookAtFlows finds what is to be done for the workflows of the queue, up to most of each kind.
func (s *Store) LookAtFlows(ctx context.Context, most int) (FlowLook, error) {
	k := s.Keys
	reply, err := s.Run(ctx, "flow_look", []string{k.FlowOutbox, k.FlowDue, k.FlowIDs}, strconv.Itoa(most))
	values, _ := reply.([]any)
	if err != nil || len(values) < 4 {
		return FlowLook{Pause: -1}, err
	}
	var n [3]int64
	for i := range n {
		n[i], _ = values[i].(int64)
	}
	look := FlowLook{Pause: time.Duration(n[0]) * time.Millisecond, Waiting: int(n[1])}
	for i, value := range values[4:] {
		switch at := int64(i); {
		case at < n[1]:
		case at < n[1]+n[2]:
			look.Due = append(look.Due, string(Bulk(value)))
		default:
			look.Forgotten = append(look.Forgotten, string(Bulk(value)))
		}
	}
	return look, nil
}

// TellFlow lets a workflow know of something, as flow_join reads it.
func (s *Store) TellFlow(ctx context.Context, flow, entry string) error {
	_, err := s.tellFlow(ctx, flow, entry, "")
	return err
}

// FlowTimer lets a workflow know that the time of one of its sets is over, for which timer stood in Keys.FlowDue. False if it is gone.
func (s *Store) FlowTimer(ctx context.Context, flow, set, timer string) (bool, error) {
	n, err := s.tellFlow(ctx, flow, "T"+set, timer)
	return n == 1, err
}

// TellFlowWith is TellFlow, and stores a payload in a field, if that has a name. It returns 0 if there is no such workflow, and 2 if the
// field was there already: then nothing has happened.
func (s *Store) TellFlowWith(ctx context.Context, flow, entry, field string, payload []byte) (int, error) {
	k := s.Keys
	return s.count(ctx, "flow_tell", []string{k.Flow(flow), k.Joins(flow), k.FlowOutbox, k.FlowDue}, flow, entry, field, string(payload), "")
}

func (s *Store) tellFlow(ctx context.Context, flow, entry, timer string) (int, error) {
	k := s.Keys
	return s.count(ctx, "flow_tell", []string{k.Flow(flow), k.Joins(flow), k.FlowOutbox, k.FlowDue}, flow, entry, "", "", timer)
}
