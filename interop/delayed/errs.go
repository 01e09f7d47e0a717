package delayed

import "errors"

// What the public package calls by the same names.
var (
	errConfiguration  = errors.New("delayed: configuration")
	errOutcomeUnknown = errors.New("delayed: Redis may or may not have carried out the command")
)
