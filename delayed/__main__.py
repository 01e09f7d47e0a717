"""`python -m delayed` is `delayed`."""

from .cli import main

main()
