package delayed

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	lettersAtOnce   = 50
	lettersLookedAt = 1000 // by a sweeper that knows nothing, from the newest
)

// TellLost stores that a tracked task has failed which a sweep has made this dead letter, for those who wait for it, and sets its
// unique key free; unique is that key, or anything. False if there was nobody to tell.
func (q *Queue) TellLost(ctx context.Context, letter, id, unique string, result []byte, keep time.Duration) (bool, error) {
	keys := []string{q.Keys.Dead, q.Keys.Task(id), q.Keys.Result(id), q.Keys.Unique(unique)}
	n, err := q.count(ctx, "tell_lost", keys, letter, id, string(result), milliseconds(keep))
	return n == 1, err
}

// yard names the dead letters of a queue, over whichever connection.
type yard struct {
	client redis.UniversalClient
	name   string
}

func yardOf(queue *Queue) yard { return yard{queue.client, queue.Name()} }

// tellLost tells those who wait for tasks that have been buried as lost. A sweep knows no ids, so this is done afterwards, by each
// sweeper for all letters that have come since it looked last: one that is killed in between leaves it to the others, or to the next.
func (s *Sweeper) tellLost(ctx context.Context, queue *Queue) error {
	seen, known := s.told[yardOf(queue)]
	if !known {
		return s.tellNewest(ctx, queue)
	}
	for {
		letters, err := readLetters(ctx, queue, "XRANGE", "("+seen, "+")
		if err != nil {
			return err
		}
		for _, letter := range letters {
			if err := letter.tell(ctx, queue); err != nil {
				return err
			}
			seen = letter.id
			s.told[yardOf(queue)] = seen
		}
		if len(letters) < lettersAtOnce {
			return nil
		}
	}
}

// tellNewest is for a sweeper that has just begun, and does not know what others had left to do.
func (s *Sweeper) tellNewest(ctx context.Context, queue *Queue) error {
	newest, last := "0-0", "+"
	for range lettersLookedAt / lettersAtOnce {
		letters, err := readLetters(ctx, queue, "XREVRANGE", last, "-")
		if err != nil {
			return err
		}
		for _, letter := range letters {
			if err := letter.tell(ctx, queue); err != nil {
				return err
			}
			if newest == "0-0" {
				newest = letter.id
			}
			last = "(" + letter.id
		}
		if len(letters) < lettersAtOnce || millisecondOf(newest)-millisecondOf(last[1:]) > trackedFor.Milliseconds() {
			break
		}
	}
	s.told[yardOf(queue)] = newest
	return nil
}

// deadLetter is an entry of Keys.Dead.
type deadLetter struct {
	id     string
	fields map[string]string
}

func readLetters(ctx context.Context, queue *Queue, command, from, to string) ([]deadLetter, error) {
	reply, err := queue.caller.call(ctx, command, queue.Keys.Dead, from, to, "COUNT", strconv.Itoa(lettersAtOnce))
	entries, _ := reply.([]any)
	letters := make([]deadLetter, 0, len(entries))
	for _, entry := range entries {
		if pair, _ := entry.([]any); len(pair) == 2 {
			letters = append(letters, deadLetter{string(bulk(pair[0])), fieldsOf(pair[1])})
		}
	}
	return letters, err
}

// tell tells those who wait for the task of a letter that a sweep has made.
func (l *deadLetter) tell(ctx context.Context, queue *Queue) error {
	if l.fields["reason"] != string(Lost) {
		return nil
	}
	job := newJob(queue, call{headers: headersIn([]byte(l.fields["task"]))})
	if job.ID == "" {
		return nil
	}
	result, err := packResult(string(StateFailed), string(Lost), strings.ToValidUTF8(l.fields["detail"], "\uFFFD"), "")
	if err != nil { // cannot be: they are texts
		return err
	}
	key, _, _ := job.unique()
	_, err = queue.TellLost(ctx, l.id, job.ID, key, result, job.keeps())
	return err
}

// millisecondOf is when an entry of a stream was added.
func millisecondOf(id string) int64 {
	text, _, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseInt(text, 10, 64) //nolint:errcheck // it is an entry's id
	return n
}

// headersIn are the headers of the task in data, in either language; nil if it has none, or is no task.
func headersIn(data []byte) map[string]any {
	if end, err := skip(data, 0); err != nil || end != len(data) {
		return nil
	}
	first, _ := headAt(data, 0)
	if first.kind != kindArray || first.values == 0 {
		return nil
	}
	path, _ := headAt(data, first.body)
	place := 2
	if bytes.Contains(data[path.body:path.body+path.size], []byte(separator)) {
		place = 4
	}
	if path.kind != kindString || first.values <= place {
		return nil
	}
	at := first.body
	for range place {
		at, _ = skip(data, at)
	}
	headers, err := readHeaders(data, at)
	if err != nil {
		return nil
	}
	return headers
}
