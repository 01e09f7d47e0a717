"""Bounds for dead letters: what becomes one, how many there may be, and how old."""

LOSSES = 3  # how many losses bury a task, if nothing else is said
LETTERS = 100_000  # dead letters that a queue keeps
DAYS = 30.0  # days that it keeps them
