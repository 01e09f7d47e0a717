"""A module that knows which process has loaded it."""

import os

import redis

LOADED_BY = os.getpid()


def loaded_by(key: str) -> None:
    with redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"]) as client:
        client.rpush(key, LOADED_BY)
