"""The supervisor of worker processes."""

from .supervisor import Supervisor

__all__ = ["Supervisor"]
