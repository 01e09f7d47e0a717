package delayed

import (
	"errors"
	"fmt"

	"github.com/delayedq/delayed/interop/internal/errs"
)

// What can go wrong. Errors of this package wrap one of these; faults of Redis itself stay go-redis's and net's own.
var (
	// ErrConfiguration says that something was set up in a way that cannot work; the message says what to change.
	ErrConfiguration = errs.ErrConfiguration
	// ErrInvalidTask says that no worker could run the task; nothing was enqueued.
	ErrInvalidTask = errs.ErrInvalidTask
	// ErrNotEncodable says that an argument has no form in MessagePack; nothing was enqueued.
	ErrNotEncodable = fmt.Errorf("%w: not encodable", ErrInvalidTask)
	// ErrTaskTooLarge says that the task has more bytes than its queue accepts; nothing was enqueued.
	ErrTaskTooLarge = fmt.Errorf("%w: too large", ErrInvalidTask)
	// ErrOutcomeUnknown says that the connection broke after a command was sent: Redis may or may not have carried it out. It is
	// never sent a second time behind the caller's back, as only the caller knows whether twice is all right.
	ErrOutcomeUnknown = errs.ErrOutcomeUnknown
	// ErrForced is what Run returns if tasks still ran when the grace was over, or when now was asked for: they were given back,
	// and their goroutines go on without a lease. Likewise if a task was over its HardTimeout, or cancelled by CancelHard: that one was
	// ended, and the others were given back.
	ErrForced = errors.New("delayed: gave back tasks that still ran")
)

// Reason is why a task lies in the dead letters: the word in the field `reason`.
type Reason string

// The reasons, as docs/protocol.md lists them.
const (
	Undecodable     Reason = "undecodable"      // the bytes are not a task
	WrongLanguage   Reason = "wrong_language"   // the path of a Python function in a Go worker
	UnknownHeader   Reason = "unknown_header"   // a header that must be understood, and is not
	UnknownFunction Reason = "unknown_function" // nothing is registered under the path
	BadArguments    Reason = "bad_arguments"    // the arguments do not fit the function's parameters
	Failed          Reason = "failed"           // the function returned an error or panicked
	Lost            Reason = "lost"             // its worker died or lost its lease too often
	ForeignKey      Reason = "foreign_key"      // a key of the task's own holds another program's data, so that it could not begin
	Expired         Reason = "expired"          // its time had passed when a worker took it
	Overran         Reason = "timed_out"        // it ran for longer than its hard timeout
)

// Unrunnable says why a worker buries a task without having run it.
type Unrunnable struct {
	Reason Reason // the word for the dead letter
	Detail string // the sentence for the human who reads it
}

func (u *Unrunnable) Error() string { return string(u.Reason) + ": " + u.Detail }

func unrunnable(reason Reason, format string, args ...any) *Unrunnable {
	return &Unrunnable{reason, fmt.Sprintf(format, args...)}
}
