package delayed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const letterPage = 50

// DeadLetter is a task that will not run again by itself.
type DeadLetter struct {
	ID     string
	Time   time.Time // when it was buried
	Task   string    // function path; empty if the bytes are no task
	Reason Reason
	Detail string
	Worker string // who buried it: the last worker, but for lost tasks, of which a sweeper says this
	Data   []byte // the task
}

func letterOf(id string, fields map[string]string) DeadLetter {
	letter := DeadLetter{ID: id, Reason: Reason(fields["reason"]), Detail: fields["detail"], Worker: fields["worker"],
		Data: []byte(fields["task"])}
	letter.Task, _, _ = wire.Peek(letter.Data)
	digits, _, _ := strings.Cut(id, "-")
	if milliseconds, err := strconv.ParseInt(digits, 10, 64); err == nil {
		letter.Time = time.UnixMilli(milliseconds)
	}
	return letter
}

// TaskID is the id of the task, tracked or not; empty if it has none.
func (l DeadLetter) TaskID() string { return idIn(l.Data) }

// trackedID is the id of a tracked task; empty for others.
func (l DeadLetter) trackedID() string {
	_, headers, _ := wire.Peek(l.Data)
	return headers.TrackedID()
}

// DeadLetters are the dead letters of the queue, newest first, read a page at a time. An error ends them.
func (q *Queue) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for last := "+"; ; {
			page, err := q.letters(ctx, "XREVRANGE", last, "-")
			if err != nil {
				yield(DeadLetter{}, err)
				return
			}
			for _, letter := range page {
				if !yield(letter, nil) {
					return
				}
			}
			if len(page) < letterPage {
				return
			}
			last = "(" + page[len(page)-1].ID
		}
	}
}

// RetryLetter puts a dead letter back at the end of its queue. A tracked task waits again: its handle gives the new result. An expired
// one no longer expires. False if it is not there any more; a *Duplicate if another task has its unique key by now: then it stays.
func (q *Queue) RetryLetter(ctx context.Context, letter DeadLetter) (bool, error) {
	data := letter.Data
	if letter.Reason == Expired { // or it would expire again
		data = without(data, "expires")
	}
	_, headers, _ := wire.Peek(data)
	key, mode, bound := headers.UniqueKey()
	id := letter.trackedID()
	if mode == wire.WhileRunning || id == "" {
		bound = 0
	}
	enqueued := headers.Number(wire.Enqueued)
	done, err := q.store.Revive(ctx, rdb.Revival{Letter: letter.ID, Data: data, ID: id, Unique: key, Bound: max(bound, 0), Enqueued: max(enqueued, 0)})
	if err == nil && done == rdb.ReviveBusy {
		err = &Duplicate{Queue: q.Name()}
	}
	if member := rdb.MemberOf(&headers); done == rdb.ReviveDone && member.Home != "" {
		q.reopen(ctx, member)
	}
	return done == rdb.ReviveDone, err
}

// reopen carries the workflow of a node on that waits again, so that who asks for its result from now on waits for the new one. Else others
// do so.
func (q *Queue) reopen(ctx context.Context, member rdb.Member) {
	home, err := q.at(member.Home)
	if err == nil && q.store.Reaches(member.Home) {
		_, err = home.carrier().Carry(ctx, member.Flow, time.Now().Add(carrySome))
	}
	if err != nil {
		slog.Debug("delayed: a workflow waits for a worker or a sweeper to carry it on", "flow", member.Flow, "error", err)
	}
}

// RetryLetters puts dead letters back at the end of their queue, in the order given; one whose unique key another task has stays. It
// returns how many went.
func (q *Queue) RetryLetters(ctx context.Context, letters ...DeadLetter) (int, error) {
	count := 0
	var plain []string // those without an id go together; others need their own keys
	flush := func() error {
		n, err := 0, error(nil)
		if len(plain) > 0 {
			n, err = q.store.DeadRetry(ctx, plain)
		}
		count, plain = count+n, nil
		return err
	}
	for _, letter := range letters {
		if letter.trackedID() == "" && letter.Reason != Expired {
			if plain = append(plain, letter.ID); len(plain) == letterPage {
				if err := flush(); err != nil {
					return count, err
				}
			}
			continue
		}
		if err := flush(); err != nil {
			return count, err
		}
		there, err := q.RetryLetter(ctx, letter)
		if err != nil && !errors.Is(err, ErrDuplicate) {
			return count, err
		}
		if there {
			count++
		}
	}
	return count, flush()
}

// PurgeLetters removes dead letters for good. It returns how many were there.
func (q *Queue) PurgeLetters(ctx context.Context, letters ...DeadLetter) (int, error) {
	if len(letters) == 0 {
		return 0, nil
	}
	command := []string{"XDEL", q.store.Keys.Dead}
	for _, letter := range letters {
		command = append(command, letter.ID)
	}
	reply, err := q.store.Caller.Call(ctx, command...)
	n, _ := reply.(int64)
	return int(n), err
}

// letters is a page of the dead letters between two ids, by XRANGE or XREVRANGE.
func (q *Queue) letters(ctx context.Context, command, from, to string) ([]DeadLetter, error) {
	reply, err := q.store.Caller.Call(ctx, command, q.store.Keys.Dead, from, to, "COUNT", strconv.Itoa(letterPage))
	entries, _ := reply.([]any)
	if err != nil {
		return nil, err
	}
	page := make([]DeadLetter, 0, len(entries))
	for _, entry := range entries {
		pair, _ := entry.([]any)
		if len(pair) != 2 {
			return nil, fmt.Errorf("delayed: Redis says that %v is an entry of a stream", entry)
		}
		page = append(page, letterOf(string(rdb.Bulk(pair[0])), rdb.Fields(pair[1])))
	}
	return page, nil
}

// without is the task in data, of either language, without one of its headers; all else keeps its bytes.
func without(data []byte, name string) []byte {
	path, headers, ok := wire.Peek(data)
	if _, there := headers.All()[name]; !ok || !there {
		return data
	}
	at := 0
	if whole, _ := wire.HeadAt(data, 0); whole.Kind == wire.KindArray {
		at = whole.Body
	}
	place := 2
	if strings.Contains(path, wire.Separator) {
		place = 4
	}
	for range place {
		at, _ = wire.Skip(data, at)
	}
	h, _ := wire.HeadAt(data, at)
	count, body := h.Values/2, []byte{}
	next := h.Body
	for range h.Values / 2 {
		key, _ := wire.HeadAt(data, next)
		middle, _ := wire.Skip(data, next)
		end, _ := wire.Skip(data, middle)
		if key.Kind == wire.KindString && string(data[key.Body:key.Body+key.Size]) == name {
			count--
		} else {
			body = append(body, data[next:end]...)
		}
		next = end
	}
	return slices.Concat(data[:at], wire.MapHead(count), body, data[next:])
}
