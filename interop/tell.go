package delayed

import (
	"context"
	"strings"
	"time"
)

const lettersLookedAt = 1000 // by a sweeper that knows nothing, from the newest

// TellLost stores that a tracked task has failed which a sweep of an older version has made this dead letter, for those who wait for it,
// and sets its unique key free. False if there was nobody to tell.
func (q *Queue) TellLost(ctx context.Context, letter string, h Holds, result []byte, keep time.Duration) (bool, error) {
	n, err := q.count(ctx, "tell_lost", q.Keys.ending(h, q.Keys.Dead), letter, h.word(), string(result), milliseconds(keep))
	return n == 1, err
}

// tellLost tells those who wait for tasks that sweepers of older versions have buried as lost: ours do that in the same step. Each sweeper
// looks at all letters that have come since it looked last.
func (s *Sweeper) tellLost(ctx context.Context, queue *Queue) error {
	yard := s.graveyardOf(queue)
	if yard.told == "" {
		return yard.tellNewest(ctx, queue)
	}
	for {
		letters, err := queue.letters(ctx, "XRANGE", "("+yard.told, "+")
		if err != nil {
			return err
		}
		for _, letter := range letters {
			if err := letter.tell(ctx, queue); err != nil {
				return err
			}
			yard.told = letter.ID
		}
		if len(letters) < letterPage {
			return nil
		}
	}
}

// tellNewest is for a sweeper that has just begun, and does not know what others had left to do.
func (g *graveyard) tellNewest(ctx context.Context, queue *Queue) error {
	newest := DeadLetter{ID: "0-0"}
	for looked, last := 0, "+"; looked < lettersLookedAt; looked += letterPage {
		letters, err := queue.letters(ctx, "XREVRANGE", last, "-")
		if err != nil {
			return err
		}
		for _, letter := range letters {
			if err := letter.tell(ctx, queue); err != nil {
				return err
			}
		}
		if last == "+" && len(letters) > 0 {
			newest = letters[0]
		}
		if len(letters) < letterPage || newest.Time.Sub(letters[len(letters)-1].Time) > trackedFor {
			break
		}
		last = "(" + letters[len(letters)-1].ID
	}
	g.told = newest.ID
	return nil
}

// tell tells those who wait for the task of a letter that a sweep has made.
func (l DeadLetter) tell(ctx context.Context, queue *Queue) error {
	_, headers, _ := glance(l.Data)
	job := newJob(queue, call{headers: headers})
	if l.Reason != Lost || job.ID == "" {
		return nil
	}
	result, err := packResult(string(StateFailed), string(Lost), strings.ToValidUTF8(l.Detail, "\uFFFD"), "")
	if err != nil { // cannot be: they are texts
		return err
	}
	_, err = queue.TellLost(ctx, l.ID, job.holds(), result, job.keeps())
	return err
}
