"""Schedules: cron expressions, definitions, and their state in Redis."""

from .expression import Cron
from .schedules import Schedules, register

__all__ = ["Cron", "Schedules", "register"]
