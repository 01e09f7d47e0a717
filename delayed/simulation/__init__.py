"""A simulation that gives queues something to do, for tests and to look at: see `delayed simulate`."""
