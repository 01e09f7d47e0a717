"""The register of queues that are served, by which a misspelled name is noticed."""

from difflib import get_close_matches

from ..base.escape import listed
from ..queue.queue import Queue
from ..redis.command import ResponseError

_SHOWN = 10  # names


def served(queue: Queue) -> dict[str, float]:
    """The queues that workers and sweepers have served in the last 90 days → when they last said so, in seconds since 1970.
    None are known if that may not be read, or another program has a key of its name."""
    try:
        return queue.store.served()
    except ResponseError:
        return {}


def doubt(queue: Queue) -> str | None:
    """What to say of a queue that nobody has served, while others were; None if there is no doubt about its name."""
    known = served(queue)
    if not known or queue.name in known:
        return None
    alike = get_close_matches(queue.name, known, _SHOWN)
    names = [*alike, *(name for name in known if name not in alike)]
    return f"no worker or sweeper has served {queue.name!r}; known queues: {listed(names)}"
