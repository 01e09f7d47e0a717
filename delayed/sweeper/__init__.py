"""The sweeper."""

from .sweeper import Sweeper

__all__ = ["Sweeper"]
