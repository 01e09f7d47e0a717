"""What a worker that preloads this tells its listeners goes to Redis."""

import os

import redis

from delayed.events import Event, subscribe


def _note(event: Event) -> None:
    with redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"]) as client:
        client.rpush(f"{event.queue}:events", f"{event.kind} {event.reason} {event.task}")


subscribe(_note)
