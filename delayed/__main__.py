"""`python -m delayed` is `delayed`."""

from .cli import run

run()
