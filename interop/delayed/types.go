package delayed

import (
	"time"

	"github.com/delayedq/delayed/interop/internal/wire"
)

// Types that MessagePack has no form of its own for. As arguments and results they arrive in Python as what they are there, and Go
// functions take what Python sends of them. A parameter may also be of a type that is usual in Go: see docs/interop.md.
type (
	// Decimal is a decimal number as text, as in "12.50": Python's Decimal. Its method Rat gives the number.
	Decimal = wire.Decimal
	// UUID is Python's UUID.
	UUID = wire.UUID
	// Date is a day of the calendar: Python's date.
	Date = wire.Date
	// TimeOfDay is a time of no certain day: Python's time without a time zone.
	TimeOfDay = wire.TimeOfDay
	// Duration is a time.Duration that arrives in Python as timedelta; a time.Duration itself is sent as its nanoseconds.
	Duration = wire.Duration
	// Path is the path of a file: Python's Path.
	Path = wire.Path
	// Set has values without an order, each once: Python's set.
	Set = wire.Set
)

// ParseUUID reads the usual form of 36 characters.
func ParseUUID(text string) (UUID, error) { return wire.ParseUUID(text) }

// DateOf is the day of a time, in its time zone.
func DateOf(t time.Time) Date { return wire.DateOf(t) }
