package delayed

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	timeTrusted = time.Minute            // for which what the server has said is good enough
	timeStep    = 500 * time.Millisecond // by which this machine's two clocks may part in that time: more is a step, or a sleep
)

// serverTime is an estimate of the server's clock: what TIME said, and what has passed since by our monotonic clock.
type serverTime struct {
	mu      sync.Mutex
	said    time.Time // by the server,
	learned time.Time // when our clocks said this; zero if it was never asked
}

func (s *serverTime) learn(said, asked, answered time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said, s.learned = said.Add(answered.Sub(asked)/2), answered
}

// now is the time by the server's clock; by our own, if the server was never asked.
func (s *serverTime) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.learned.IsZero() {
		return time.Now()
	}
	return s.said.Add(time.Since(s.learned))
}

// stale tells whether it is time to ask: never asked, not for a minute, or this machine has slept or its clock was set since.
func (s *serverTime) stale() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.learned.IsZero() {
		return true
	}
	now := time.Now()
	passed := now.Sub(s.learned)                           // by the monotonic clock,
	apart := now.Round(0).Sub(s.learned.Round(0)) - passed // and by the other
	return passed > timeTrusted || apart.Abs() > timeStep
}

// clock is the server's time; it is asked once a minute at most. Who may not ask has to do with the clock of this machine.
func (q *Queue) clock(ctx context.Context) (time.Time, error) {
	if q.time.stale() {
		asked := time.Now()
		said, err := q.now(ctx)
		var answered redis.Error
		if err != nil && !errors.As(err, &answered) {
			return q.time.now(), err
		}
		if err == nil {
			q.time.learn(time.UnixMilli(said), asked, time.Now())
		}
	}
	return q.time.now(), nil
}

// certain is an error without the note that a command may or may not have been carried out: nothing has come of it.
func certain(err error) error {
	if both, ok := err.(interface{ Unwrap() []error }); ok && errors.Is(err, ErrOutcomeUnknown) { //nolint:errorlint // we have made it
		wrapped := both.Unwrap()
		return wrapped[len(wrapped)-1]
	}
	return err
}
