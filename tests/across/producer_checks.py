"""What a producer has to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from delayed.task.decode import decode
from delayed.task.task import GoTask, PyTask
from tests import ROOT

from .agent import native
from .agents import FUNCTIONS, Agent, Order, order
from .checks import Failed, equal
from .payloads import Value, payloads

QUEUE = "conformance"
NAN = {"float": "nan"}  # it has many forms
CHECKS: list[Callable[[Agent, redis.Redis, str, Path], None]] = []


def check(function: Callable[[Agent, redis.Redis, str], None]) -> None:
    """Adds a check, which needs no log."""

    def run(agent: Agent, client: redis.Redis, url: str, log: Path) -> None:
        function(agent, client, url)

    run.__doc__ = function.__doc__
    CHECKS.append(run)


def produced(agent: Agent, client: redis.Redis, url: str, orders: list[Order]) -> list[bytes]:
    """The tasks that the producer enqueues."""
    if refused := agent.produce(url, orders):
        raise Failed(f"it refuses {len(refused)} orders: {str(refused)[:300]}")
    tasks: Any = client.lrange(QUEUE, 0, -1)
    equal(len(tasks), len(orders), "the number of tasks")
    return list(tasks)


@check
def bytes_of_payloads(agent: Agent, client: redis.Redis, url: str) -> None:
    """each payload is packed as the published producers do"""
    values = [value for value in payloads() if agent.language == "go" or "struct" not in value]
    orders = [order(QUEUE, agent.language, "echo", {"str": "key"}, value) for value in values]
    for value, data in zip(values, produced(agent, client, url, orders), strict=True):
        args = ("key", native(value))
        path = FUNCTIONS[agent.language]["echo"]
        wanted = (PyTask(path, args) if agent.language == "python" else GoTask(path, args)).serialize()
        if data != wanted and value != NAN:
            raise Failed(f"{str(value)[:100]}: {data.hex()[:200]}, and not {wanted.hex()[:200]}")


@check
def vectors(agent: Agent, client: redis.Redis, url: str) -> None:
    """the canonical vectors of tests/vectors/tasks.json, without those of tasks that ask for more"""
    known = json.loads((ROOT / "tests" / "vectors" / "tasks.json").read_text())["vectors"]
    plain = [vector for vector in known if vector["canonical"] and "headers" not in vector["means"]]
    wanted = [vector for vector in plain if vector["language"] == agent.language]
    tasks = produced(agent, client, url, [_order(vector["means"]) for vector in wanted])
    for vector, data in zip(wanted, tasks, strict=True):
        equal(data.hex(), vector["hex"], vector["name"])


def _order(means: dict[str, Any]) -> Order:
    """The order that asks for what a vector means."""
    if "payload" in means:
        payload = means["payload"]
        args = payload if isinstance(payload, list) else [] if payload is None else [payload]
        return {"queue": QUEUE, "language": "go", "func_path": means["func_path"], "args": [_notation(arg) for arg in args]}
    kwargs = {name: _notation(value) for name, value in means["kwargs"].items()}
    args = [_notation(arg) for arg in means["args"]]
    return {"queue": QUEUE, "language": "python", **means, "args": args, "kwargs": kwargs}


def _notation(value: object) -> Value:
    return {"int": str(value)} if isinstance(value, int) else {"str": value}


@check
def meaning(agent: Agent, client: redis.Redis, url: str) -> None:
    """keyword arguments and retries arrive as such (Python tasks)"""
    if agent.language == "python":
        words = {"kwargs": {"value": {"list": [{"nil": True}]}, "key": {"str": "k"}}, "retry": -1}
        (data,) = produced(agent, client, url, [order(QUEUE, "python", "echo", **words)])
        found = decode(data)
        equal((found.kwargs, found.retry), ({"key": "k", "value": [None]}, -1), "keyword arguments and retry")


@check
def notified(agent: Agent, client: redis.Redis, url: str) -> None:
    """each task has a notification, and they stand in order"""
    orders = [order(QUEUE, agent.language, "echo", {"str": "key"}, {"int": str(number)}) for number in range(100)]
    tasks = produced(agent, client, url, orders)
    equal([data[-1] for data in tasks], list(range(100)), "the order")
    equal(client.lrange(f"{QUEUE}_noti", 0, -1), [b"1"] * 100, "the notifications")
    equal(sorted(client.keys("*")), [QUEUE.encode(), f"{QUEUE}_noti".encode()], "the keys")
