package delayed

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/delayedq/delayed/interop/internal/conn"
	"github.com/delayedq/delayed/interop/internal/connect"
	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/redis/go-redis/v9"
)

// outcome are the fields of a state that say how its task has ended.
var outcome = []string{"state", "error", "result"}

// found is told what they say, or the error that Redis said instead.
func (w *waiter) found(key string, reply any) error {
	if refusal, ok := reply.(conn.ReplyError); ok {
		if refusal.Misplaced() {
			return refusal
		}
		w.answer(key, answer{err: refusal})
	} else if found, over := answerIn(reply); over {
		if n := w.nodeOf(key); n != nil && undecided(found) {
			w.askNode(key, n, found)
			return nil
		}
		w.answer(key, found)
	}
	return nil
}

func (w *waiter) nodeOf(key string) *nodePlace {
	for one := range w.waiting[key] {
		return one.node
	}
	return nil
}

// askNode asks the workflow of a node of which the state of its task does not say what has become, and again when its marks change.
func (w *waiter) askNode(key string, n *nodePlace, own answer) {
	if w.marked[n.marks] == nil {
		w.marked[n.marks] = map[string]struct{}{}
	}
	w.marked[n.marks][key] = struct{}{}
	var mark any
	w.expect(func(reply any) error {
		mark = reply
		return nil
	}, n.askMark()...)
	w.expect(func(reply any) error {
		if found, known := n.answer(mark, reply); !known {
			w.answer(key, own)
		} else if found.data != nil || found.err != nil {
			w.answer(key, found)
		}
		return nil
	}, n.askFields()...)
}

// askLater asks again about nodes whose workflow has changed: not at once, as that may be often.
func (w *waiter) askLater(marks string) {
	keys := w.marked[marks]
	delete(w.marked, marks)
	if len(w.later) == 0 {
		w.laterAt = time.Now().Add(time.Duration(len(keys)) * nodePause)
	}
	maps.Copy(w.later, keys)
}

// answerIn is what the fields of outcome say; over, if the task has ended or is not known.
func answerIn(reply any) (found answer, over bool) {
	fields, _ := reply.([]any)
	if len(fields) != len(outcome) {
		return answer{}, false
	}
	if data := rdb.Bulk(fields[2]); data != nil {
		return answer{data: data}, true
	}
	err := withoutResult(fields)
	return answer{err: err}, err != nil
}

// withoutResult says why a task with this state and error has no result, and will have none; nil if it may have one.
func withoutResult(fields []any) error {
	state, text := rdb.Bulk(fields[0]), string(rdb.Bulk(fields[1]))
	switch State(state) {
	case StateFailed:
		kind, message, _ := strings.Cut(text, ": ")
		return &TaskFailed{Kind: kind, Message: message}
	case StateExpired:
		return ErrTaskExpired
	case StateCancelled:
		return ErrTaskCancelled
	case StateSucceeded:
		return fmt.Errorf("%w any more: see ResultTTL", ErrNoResult)
	}
	if state == nil {
		return ErrUnknownTask
	}
	return nil
}

func (w *waiter) expect(then func(any) error, args ...string) {
	if len(w.replies) == 0 {
		w.heard = time.Now()
	}
	w.replies = append(w.replies, then)
	w.outbox = conn.AppendCommand(w.outbox, args...)
}

// received looks at what has arrived. An error ends the connection.
func (w *waiter) received(reply any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = time.Now()
	switch reply := reply.(type) {
	case conn.ReplyError: // a reply
	case error:
		return reply
	case conn.Push:
		w.changed(reply)
		return nil
	}
	if len(w.replies) == 0 {
		return io.ErrUnexpectedEOF // nobody has asked
	}
	then := w.replies[0]
	w.replies = w.replies[1:]
	w.trouble = nil
	return then(reply)
}

// changed reads again what Redis says has changed: keys, or all of them.
func (w *waiter) changed(message conn.Push) {
	keys, some := message[len(message)-1].([]any)
	if !some {
		w.askAll()
	}
	for _, each := range keys {
		switch key := string(rdb.Bulk(each)); {
		case len(w.waiting[key]) > 0:
			w.ask(key)
		case len(w.marked[key]) > 0:
			w.askLater(key)
		}
	}
}

func (w *waiter) answer(key string, found answer) {
	for one := range w.waiting[key] {
		one.answered <- found
	}
	delete(w.waiting, key)
}

// again reports whether what Redis could not answer may be asked again: it is away for a moment.
func again(err error) bool {
	var said redis.Error
	switch {
	case connect.Refused(err) || errors.Is(err, redis.ErrClosed) || errors.Is(err, ErrConfiguration):
		return false
	case errors.As(err, &said):
		return conn.ReplyError(said.Error()).Misplaced()
	}
	return true
}
