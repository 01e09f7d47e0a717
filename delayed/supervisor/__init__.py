"""The supervisor: starts worker processes, replaces them, and recovers their tasks."""

from .supervisor import Supervisor

__all__ = ["Supervisor"]
