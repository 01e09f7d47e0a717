package delayed

import (
	"context"
	"errors"
	"strings"

	"github.com/delayedq/delayed/interop/internal/rdb"
	"github.com/delayedq/delayed/interop/internal/wire"
)

const lettersLookedAt = 1000 // by a sweeper that knows nothing, from the newest, in one sweep

// notifyLost stores the end of tasks, for those who wait for them, that sweepers of older versions have buried as lost: ours do that
// in the same step. Each sweeper looks at all letters that have come since it looked last.
func (s *Sweeper) notifyLost(ctx context.Context, queue *Queue) error {
	kept := s.retentionOf(queue)
	for kept.notified != "" {
		letters, err := queue.letters(ctx, "XRANGE", "("+kept.notified, "+")
		if err != nil {
			return err
		}
		for _, letter := range letters {
			if err := s.notifyOne(ctx, queue, letter); err != nil {
				return err
			}
			kept.notified = letter.ID
		}
		if len(letters) < letterPage {
			break
		}
	}
	return s.notifyOlder(ctx, queue, kept)
}

// notifyOlder is for a sweeper that has just begun, and does not know what others had left to do. It reads backwards, some letters at each
// call, until the end, or until what is kept of their tasks has run out.
func (s *Sweeper) notifyOlder(ctx context.Context, queue *Queue, kept *retention) error {
	for looked := 0; looked <= lettersLookedAt && kept.older != ""; looked += letterPage { // a page more, to see that there are no others
		letters, err := queue.letters(ctx, "XREVRANGE", kept.older, "-")
		if err != nil {
			return err
		}
		for _, letter := range letters {
			if err := s.notifyOne(ctx, queue, letter); err != nil {
				return err
			}
		}
		if kept.notified == "" {
			kept.notified = "0-0"
			if len(letters) > 0 {
				kept.notified, kept.newest = letters[0].ID, letters[0].Time
			}
		}
		if len(letters) < letterPage || kept.newest.Sub(letters[len(letters)-1].Time) > rdb.TrackedFor {
			kept.older = ""
		} else {
			kept.older = "(" + letters[len(letters)-1].ID
		}
	}
	return nil
}

// notifyOne does so for one letter; one that any program may have written stops no others.
func (s *Sweeper) notifyOne(ctx context.Context, queue *Queue, letter DeadLetter) error {
	err := guarded(func() error { return letter.notifyLost(ctx, queue) })
	var defect *broken
	if errors.As(err, &defect) {
		s.log.Error("nobody can be told of a dead letter", "queue", queue.Name(), "letter", letter.ID, "error", err)
		return nil
	}
	return err
}

// notifyLost stores the end of the task of a letter that a sweep has made, for those who wait for it.
func (l DeadLetter) notifyLost(ctx context.Context, queue *Queue) error {
	_, headers, _ := wire.Peek(l.Data)
	job := newJob(queue, call{headers: headers})
	if l.Reason != Lost || !job.Tracked {
		return nil
	}
	result, err := packResult(string(StateFailed), string(Lost), strings.ToValidUTF8(l.Detail, "\uFFFD"), "")
	if err != nil { // cannot be: they are texts
		return err
	}
	_, err = queue.store.TellLost(ctx, l.ID, job.holds(), result, job.keeps())
	return err
}
