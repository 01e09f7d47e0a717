"""The page of a queue's history: what became of its tasks, and those events of it that somebody looks for."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..base.ids import is_entry
from ..base.moments import FORMS, moment_since
from ..errors import DelayedError
from ..ops.history import HistoryFilter, history
from ..queue.history import OUTCOMES, keeping
from .site import Site
from .words import name_in

_ROWS = 50  # events, about
LOOKED_AT = 5_000  # events, on a page


class InvalidTime(DelayedError):
    """This is no time."""


def past(site: Site, request: Request) -> Response:
    """The history of one queue, newest first."""
    where = site.queue(name_in(request.path_params["queue"]))
    asked = {
        name: request.query_params.get(name, "").strip() for name in ("function", "outcome", "text", "id", "since", "until")
    }
    cursor = request.query_params.get("cursor", "")
    times = {name: _moment(asked[name]) for name in ("since", "until")}
    texts = {name: asked[name] or None for name in ("function", "outcome", "text", "id")}
    wanted: dict[str, Any] = {**texts, **times}
    page = history(where, HistoryFilter(**wanted), _ROWS, LOOKED_AT, cursor if is_entry(cursor) else "")
    rows = [(where.name, each) for each in page.events]
    context = {"rows": rows, "where": where.name, "page": page, "asked": asked, "outcomes": OUTCOMES, "kept": keeping(where)}
    return site.page(request, "history.html", {"title": f"History of {where.name}", **context})


def _moment(text: str) -> float | None:
    try:
        return moment_since(text) if text else None
    except ValueError:
        raise InvalidTime(f"{text!r:.60} is no time: write it as {FORMS}") from None
