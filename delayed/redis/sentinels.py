"""Asks Sentinel which server is the primary."""

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from .command import is_refused


def place(client: Any) -> str:
    """Host and port of a client of one server."""
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    host = options.get("host", "localhost")
    return f"{f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}"


class NewestSentinel(Sentinel):
    """Asks all sentinels, and believes the one that has heard of the latest failover: one that has not would send us to the
    old primary for as long as it is behind, again and again."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """The address of the primary."""
        answers: list[tuple[Any, Any]] = []
        sentinels: list[Any] = self.sentinels
        for sentinel in sentinels:
            try:
                answers.append((sentinel, sentinel.sentinel_masters()))
            except (RedisError, OSError, UnicodeError) as error:
                answers.append((sentinel, error))
        return _newest(answers, self.check_master_state, service_name)


class NewestAsyncSentinel(redis.asyncio.sentinel.Sentinel):
    """As `NewestSentinel`, for asyncio."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """The address of the primary."""
        answers: list[tuple[Any, Any]] = []
        sentinels: list[Any] = self.sentinels
        for sentinel in sentinels:
            try:
                answers.append((sentinel, await sentinel.sentinel_masters()))
            except (RedisError, OSError, UnicodeError) as error:
                answers.append((sentinel, error))
        return _newest(answers, self.check_master_state, service_name)


def _newest(answers: list[tuple[Any, Any]], is_up: Any, service: str) -> tuple[str, int]:
    """What the sentinel says that has heard of the latest failover.

    Raises:
        AuthenticationError: none names the primary, and one that could does not let us in.
        MasterNotFoundError: none names it.
    """
    states = [answer.get(service) for _, answer in answers if isinstance(answer, dict)]
    known = [state for state in states if state and is_up(state, service)]
    if known:
        newest = max(known, key=lambda state: int(state["config-epoch"]))
        return newest["ip"], newest["port"]
    says = "; ".join(f"{place(sentinel)} {_answer(answer, service)}" for sentinel, answer in answers)
    text = f"no sentinel knows a primary of {service!r} that is up: {says}"
    errors = [answer for _, answer in answers if isinstance(answer, Exception)]
    if any(isinstance(error, NoPermissionError) or is_refused(error) for error in errors):
        raise AuthenticationError(f"{text}; sentinels have a user and a password of their own, see sentinel_password")
    raise MasterNotFoundError(text)


def _answer(answer: Any, service: str) -> str:
    """What a sentinel has answered, in words."""
    if not isinstance(answer, dict):
        return f"says: {str(answer).rstrip('.')}"
    if service in answer:
        return f"says that it is down ({answer[service].get('flags', '')})"
    others = ", ".join(sorted(map(str, answer)))
    return f"knows {others}, and not this" if others else "knows none"


class SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Connections to the primary, for which one waits if all are busy."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close connections. (Older versions of redis-py's pool cannot spare those that are in use.)"""
        idle = [each for each in self.pool.queue if each]
        for connection in list(self._connections) if inuse_connections else idle:
            connection.disconnect()


class AsyncSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """As `SentinelPool`, for asyncio."""
