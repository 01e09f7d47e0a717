"""Bulk acts as jobs, and what was counted of a queue, over HTTP."""

import asyncio
from functools import partial
from typing import Any

from ..errors import InvalidAct
from ..ops import job_records
from ..ops.job_records import Job
from ..ops.jobs import LETTERS, WAITING, begin, stop_job
from ..ops.overview import look
from ..ops.periods import PERIODS, counts
from ..ops.statistics import shown, sums, times, totals
from ..queue.waiting import Wanted
from .calls import Call
from .forms import moment_of, text
from .http import Problem, Response
from .look import search_of

ACTS = (*LETTERS, *WAITING)


async def begin_job(call: Call) -> Response:
    """Begin a job."""
    queue, body = call.link.blocking, call.body
    act, moment = body["act"], body.get("moment")
    other = "tasks" if act in LETTERS else "letters"
    if other in body:
        raise Problem(422, f"{act} is for {'dead letters' if other == 'tasks' else 'tasks that wait'}, not for {other}")
    if act in LETTERS:
        wanted: Any = search_of(body.get("letters", {}))
    else:
        chosen = dict(body.get("tasks", {}))
        wanted = Wanted(task=chosen.pop("function", None), **chosen)
    at = None if moment is None else moment_of(moment, "moment").timestamp()
    try:
        job = await asyncio.to_thread(partial(begin, queue, call.actor, act, wanted, at))
    except InvalidAct as error:
        raise Problem(422, str(error)) from None
    call.services.jobs.work_on(queue)
    return Response(_shown(job), 201)


async def list_jobs(call: Call) -> Response:
    """The jobs of a queue, the newest first."""
    queue = call.link.blocking
    found = await asyncio.to_thread(job_records.jobs, queue)
    if any(job.state == "open" for job in found):
        call.services.jobs.work_on(queue)
    return Response({"jobs": [_shown(job) for job in found]})


async def show_job(call: Call) -> Response:
    """A job, and how far it is."""
    job = await _job(call)
    if job.state == "open":
        call.services.jobs.work_on(call.link.blocking)
    return Response(_shown(job))


async def stop(call: Call) -> Response:
    """Stop a job after the page at hand."""
    job = await _job(call)
    try:
        return Response(_shown(await asyncio.to_thread(stop_job, call.link.blocking, call.actor, job.id)))
    except InvalidAct as error:
        raise Problem(409, str(error), "not-now") from None


async def _job(call: Call) -> Job:
    try:
        return await asyncio.to_thread(job_records.job_of, call.link.blocking, call.names["job"])
    except InvalidAct:
        raise Problem(404, "this queue has no such job, or it has been forgotten") from None


def _shown(job: Job) -> dict[str, Any]:
    return {name: text(value) if isinstance(value, str) else value for name, value in job.as_dict().items()}


async def stats(call: Call) -> Response:
    """What was counted of a queue within a period, and what has become of its tasks."""
    queue, function = call.link.blocking, call.query.get("function")
    period = PERIODS[call.query.get("period", "day")]

    def read() -> dict[str, Any]:
        found = counts(queue, period)
        chosen = {path: each for path, each in found.functions.items() if function in (None, path)}
        return {
            "queue": text(queue.name),
            "period": period.name,
            "step": found.step,
            "all": {**shown(found.all), **times(found.times)},
            "since": found.since,
            "functions": {text(path): shown(each) for path, each in chosen.items()},
            "steps": [{"time": time, **shown(each)} for time, each in found.steps],
            "sums": sums(totals(queue), look(queue))._asdict(),
        }

    return Response(await asyncio.to_thread(read))
