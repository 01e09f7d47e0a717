"""The table of operations that tell what happens."""

from typing import Any

from ..ops.periods import PERIODS
from . import events, jobs, scrape
from .calls import Route
from .option_schemas import LIKE, TEXT

_ENTRY = {"type": "string", "pattern": r"^[0-9]{1,16}-[0-9]{1,19}$"}
_QUERY: dict[str, Any] = {
    "after": {**_ENTRY, "description": "The id of an event: what has been since then comes first."},
    "seconds": {"type": "number", "minimum": 0.001, "maximum": 1e6, "description": "After so long the answer ends."},
}
_Q = "/v1/queues/{queue}"
_LAST = {"type": "string", "pattern": r"^([0-9]{1,16}-[0-9]{1,19})?$"}  # it is empty if they have seen no event yet
_HEADERS = {"Last-Event-ID": {**_LAST, "description": "As `after`, from clients that come back."}}

WATCH_ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/v1/events", events.events, "read", "Tell what happens, as server-sent events.", gives={200: events.EVENTS},
        query={"queues": {**TEXT, "description": "Names, with commas; without it, all that are served."}, **_QUERY},
        headers=_HEADERS,
    ),
    Route(
        "GET", "/v1/queues/{queue}/events", events.queue_events, "read",
        "Tell what happens in a queue, as server-sent events.", gives={200: events.EVENTS}, query=_QUERY, headers=_HEADERS,
    ),
    Route(
        "GET", "/metrics", scrape.metrics, "read", "Show metrics to Prometheus.", gives={200: "text/plain"}, query=LIKE,
    ),
    Route(
        "GET", f"{_Q}/stats", jobs.stats, "read", "Show what was counted of a queue, and of its functions.",
        gives={200: "Stats"},
        query={
            "period": {"type": "string", "enum": list(PERIODS), "default": "day"},
            "function": {**TEXT, "description": "Only this one among the functions."},
        },
    ),
    Route(
        "POST", f"{_Q}/jobs", jobs.begin_job, "operate",
        "Begin an act on many dead letters, or on many tasks that wait, which goes on by itself.", takes="NewJob",
        required=True, gives={201: "Job"},
    ),
    Route("GET", f"{_Q}/jobs", jobs.list_jobs, "read", "List the jobs of a queue, the newest first.", gives={200: "Jobs"}),
    Route(
        "GET", f"{_Q}/jobs/{{job}}", jobs.show_job, "read", "Show a job, and how far it is.", gives={200: "Job"},
        problems=(404,),
    ),
    Route(
        "POST", f"{_Q}/jobs/{{job}}/stop", jobs.stop, "operate",
        "Stop a job after the page at hand. What it has done stays done.", takes="Nothing", gives={200: "Job"},
        problems=(404, 409),
    ),
)  # fmt: skip
