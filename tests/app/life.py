"""Tasks that know our package. (Those in `tasks` also run under the older one.)"""

import os
import time

import redis

from delayed.errors import NotDone, Retry, TimedOut
from delayed.events import Event
from delayed.hooks import Hooks
from delayed.job.job import current_task
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue


def ask_again(attempts: int) -> int:
    """Ask for another attempt until there have been so many."""
    job = current_task()
    if job.attempt < attempts:
        raise Retry(after=0.02)
    return job.attempt


def until_cancelled() -> str:
    job = current_task()
    job.progress(1, 10, "begun")
    while not job.cancelled:
        time.sleep(0.01)
    return "cancelled"


def describe_itself() -> list[object]:
    job = current_task()
    return [job.func_path, job.id, job.attempt, job.queue.name, job.enqueued_at]


def note_itself(key: str) -> None:
    with redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"]) as client:
        client.rpush(key, str(current_task()))


def clear_up(seconds: float) -> str:
    try:
        time.sleep(seconds)
    except TimedOut:
        return "cleared up"
    return "slept"


def _heard(event: Event) -> None:
    if event.args:
        with redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"]) as client:
            client.rpush(event.args[0], event.kind)


def stay_and_be_heard(key: str) -> None:
    """Never end; whatever happens to it is noted."""
    time.sleep(1000)


Hooks(on_start=_heard, on_failure=_heard, on_retry=_heard).put_on(stay_and_be_heard)


QUEUE: Queue | None = None  # a test says where the others are


def waits_for(queue: str, identity: str) -> str:
    """Wait for another task, not for long. Returns what that raises."""
    assert QUEUE is not None
    assert QUEUE.name == queue
    try:
        Handle(QUEUE, identity).result(0.2)
    except NotDone as error:
        return type(error).__name__
    return ""


async def waits_for_it(queue: str, identity: str) -> str:
    assert QUEUE is not None
    assert QUEUE.name == queue
    try:
        await Handle(QUEUE, identity).aresult(0.2)
    except NotDone as error:
        return type(error).__name__
    return ""
