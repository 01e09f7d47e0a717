package delayed

import (
	"errors"
	"fmt"

	"github.com/delayedq/delayed/interop/internal/cron"
)

// CatchUp says what becomes of occurrences that were missed.
type CatchUp string

// What becomes of them.
const (
	SkipMissed CatchUp = cron.SkipMissed
	OneMissed  CatchUp = cron.OneMissed // one task stands for all
	AllMissed  CatchUp = cron.AllMissed
)

// ErrInvalidSchedule says that there is no such schedule: an expression, a time zone or a definition that cannot be read, or that
// never fires, or a task that asks for what only a single one can have.
var ErrInvalidSchedule = errors.New("delayed: invalid schedule")

// Cron says when a schedule fires. The rules about summer time are those of Debian's cron: a schedule of certain times (neither minute
// nor hour begins with `*`) fires once for each; what the clock skips fires when the gap ends, and what it shows twice fires the
// first time. Any other fires whenever the clock shows what matches.
type Cron struct {
	// Expression has five fields: minute, hour, day of the month, month, day of the week; a sixth, in front, is for seconds.
	Expression string
	// TZ is the time zone whose clock is meant, as `Europe/Zurich`; UTC by default. The zones are those of the machine; a program
	// for machines that have none imports time/tzdata.
	TZ string
	// CatchUp is what becomes of occurrences that were missed: SkipMissed by default.
	CatchUp CatchUp
}

// read makes sense of it. The error wraps ErrInvalidSchedule.
func (c Cron) read() (*cron.Timetable, error) {
	t, err := cron.Read(c.Expression, c.TZ, string(c.CatchUp))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidSchedule, err)
	}
	return t, nil
}

// cronIn is what a timetable was read from.
func cronIn(t *cron.Timetable) Cron { return Cron{t.Expression, t.Tz, CatchUp(t.CatchUp)} }
