"""The page of metrics: how the tasks of a queue ended within a period, of each function, and how long they ran."""

from starlette.requests import Request
from starlette.responses import Response

from ..ops.periods import PERIODS, counts
from ..redis.statistics import Histogram
from .chart import bars
from .site import Site
from .words import age


def metrics(site: Site, request: Request) -> Response:
    """What workers have counted of one queue: of the one that is named, or the first."""
    names = [each.name for each in site.queues()]
    named = request.query_params.get("queue") or (names[0] if names else None)
    period = PERIODS.get(request.query_params.get("last", ""), PERIODS["day"])
    found = counts(site.queue(named), period) if named else None
    context = {
        "names": names,
        "named": named,
        "periods": list(PERIODS),
        "period": period,
        "found": found,
        "chart": bars(found.steps) if found else "",
        "below": below,
    }
    return site.page(request, "metrics.html", {"title": "Metrics", **context})


def below(times: Histogram, share: float) -> str:
    """The time below which this share of the tasks ran or waited, in words."""
    bound = times.quantile(share)
    if bound is None:
        return "-"
    return "over 1 h" if bound == float("inf") else f"{bound * 1000:.0f} ms" if bound < 1 else age(bound)
