"""`python -m delayed` is `delayed`."""

from .cli.main import run

run()
