"""Lets `python -m delayed` run the command `delayed`."""

from .cli.main import run

run()
