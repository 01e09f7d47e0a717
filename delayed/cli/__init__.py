"""The command `delayed`."""

from .main import main

__all__ = ["main"]
