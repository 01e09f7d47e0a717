"""The sweeper: recovers what dead workers held, moves due tasks, and runs schedules."""

from .sweeper import Sweeper

__all__ = ["Sweeper"]
