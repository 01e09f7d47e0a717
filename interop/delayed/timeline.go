package delayed

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

// Happening is one thing that has happened to a task. What means nothing for its event is zero.
type Happening struct {
	Time time.Time // zero if an older version did not note it
	// Event is enqueued, started, retried (the attempt failed; another follows), lost, given_back, waits (for a key), deferred (nobody
	// could run it), moved, cancel (somebody asked for it), revived (it came back from the dead letters), omitted (more happened than is
	// kept), or how the task ended: a State.
	Event   string
	Attempt int
	Worker  string        // host:pid; of a cancel: who asked for it
	Detail  string        // what the attempt said, or why the task waits
	Pause   time.Duration // before the next attempt
	Due     time.Time     // when a task that was moved may begin
	Times   int           // how often it was lost, or how many things are left out
}

// timelineFields are those that a timeline is made of.
var timelineFields = []string{"state", "enqueued", "started", "worker", "attempt", "error", "ended", "log"}

// Timeline is what has happened to the task, in order, as its state tells: the first 16 things and the last 16, if there are more. The
// error wraps ErrUnknownTask or ErrNoResult if nothing is known.
func (h *Handle) Timeline(ctx context.Context) ([]Happening, error) {
	if err := h.known(); err != nil {
		return nil, err
	}
	reply, err := h.queue.store.Caller.Call(ctx, append([]string{"HMGET", h.queue.store.Keys.Task(h.ID)}, timelineFields...)...)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	found, _ := reply.([]any)
	for i, each := range found {
		if value := rdb.Bulk(each); value != nil && i < len(timelineFields) {
			fields[timelineFields[i]] = string(value)
		}
	}
	if fields["state"] == "" {
		return nil, h.unknown()
	}
	return timelineOf(fields), nil
}

func timelineOf(fields map[string]string) []Happening {
	began := map[beginning]bool{}
	var rows []Happening
	decoder := wire.NewDecoder([]byte(fields["log"]))
	for {
		value, err := decoder.Anything()
		entry, ok := value.([]any)
		if err != nil || !ok || len(entry) != 4 && len(entry) != 7 { // what another program has written ends them
			break
		}
		rows = append(rows, happenings(entry, began)...)
	}
	attempt, _ := strconv.Atoi(fields["attempt"]) //nolint:errcheck // it is there once the task has begun
	started := moment(fields["started"])
	state := State(fields["state"])
	begun := state == StateRunning || state == StateSucceeded || !began[beginning{attempt, started.UnixMilli()}]
	if !started.IsZero() && begun {
		place := len(rows)
		for place > 0 && rows[place-1].Event == "cancel" { // what runs can only be cancelled
			place--
		}
		rows = slices.Insert(rows, place, Happening{Time: started, Event: "started", Attempt: attempt, Worker: fields["worker"]})
	}
	if enqueued := moment(fields["enqueued"]); !enqueued.IsZero() {
		rows = slices.Insert(rows, 0, Happening{Time: enqueued, Event: "enqueued"})
	}
	switch state {
	case StateSucceeded, StateFailed, StateExpired, StateCancelled:
		end := Happening{Time: moment(fields["ended"]), Event: string(state), Worker: fields["worker"]}
		if !started.IsZero() {
			end.Attempt = attempt
		}
		if state == StateFailed {
			end.Detail = fields["error"]
		}
		rows = append(rows, end)
	}
	return rows
}

// beginning is when an attempt has begun.
type beginning struct {
	attempt      int
	milliseconds int64
}

// happenings are what one entry says: when its attempt began, if that has not been said, and how it ended.
func happenings(entry []any, began map[beginning]bool) []Happening {
	var rows []Happening
	event, _ := entry[1].(string)
	what, _ := entry[2].(string)
	count := int64(number(entry[3]))
	this := Happening{Time: time.UnixMilli(int64(number(entry[0]))), Event: event, Detail: what}
	if len(entry) == 7 {
		this.Attempt, this.Worker = int(number(entry[4])), text(entry[6])
		if start := (beginning{this.Attempt, int64(number(entry[5]))}); start.milliseconds != 0 && (event != "revived" || !began[start]) { // what has failed may not have begun
			began[start] = true
			rows = append(rows, Happening{Time: time.UnixMilli(start.milliseconds), Event: "started", Attempt: this.Attempt, Worker: this.Worker})
		}
	}
	switch event {
	case "revived":
		if count != 0 {
			failed := this
			failed.Time, failed.Event = time.UnixMilli(count), string(StateFailed)
			rows = append(rows, failed)
		}
		this = Happening{Time: this.Time, Event: event}
	case "retried", "deferred":
		this.Pause = time.Duration(count) * time.Millisecond
	case "moved":
		this.Due = time.UnixMilli(count)
	case "cancel":
		this.Worker, this.Detail = what, ""
		if count != 0 {
			this.Detail = "hard"
		}
	case "lost", "omitted":
		this.Times = int(count)
	}
	return append(rows, this)
}

func text(value any) string {
	found, _ := value.(string)
	return found
}
