// Package errs has the errors that internal packages return, and the public one names.
package errs

import "errors"

// What the public package calls by the same names.
var (
	ErrConfiguration  = errors.New("delayed: configuration")
	ErrInvalidTask    = errors.New("delayed: invalid task")
	ErrOutcomeUnknown = errors.New("delayed: Redis may or may not have carried out the command")
)
