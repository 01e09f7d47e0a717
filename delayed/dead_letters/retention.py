"""Bounds for dead letters: how many and how old."""

LETTERS = 100_000  # dead letters that a queue keeps
DAYS = 30.0  # days that it keeps them
