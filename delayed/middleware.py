"""The public names of middlewares: functions that wrap each task with headers."""

from .job.job import Job
from .job.middleware import AsyncMiddleware, AsyncStep, Middleware, Step, compose
from .job.outcome import Again, Done, Ended, Failed, Outcome

__all__ = [
    "Again",
    "AsyncMiddleware",
    "AsyncStep",
    "Done",
    "Ended",
    "Failed",
    "Job",
    "Middleware",
    "Outcome",
    "Step",
    "compose",
]
