package delayed

// SharedURL is where the Redis of all tests is, for examples that see this package from outside.
func SharedURL() string { return shared.url() }
