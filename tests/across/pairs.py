"""All payloads from one producer to one worker."""

import random
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from .agents import Agent, Order, order
from .payloads import Value, matches

PATIENCE = 90.0  # seconds; upstream's worker sleeps a second after each task that it cannot read


@dataclass
class Exchange:
    """What became of the payloads of a pair: their numbers, by what went wrong."""

    count: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    different: dict[int, str] = field(default_factory=dict)
    keywords: bool | None = None  # whether keyword arguments arrived; None where there are none
    wrong: list[str] = field(default_factory=list)


def exchange(producer: Agent, worker: Agent, values: list[Value], client: redis.Redis, url: str, folder: Path) -> Exchange:
    """Send each value through Echo. Values that a worker cannot read are spread among the others, as it sleeps after each."""
    name = f"p{secrets.token_hex(6)}"
    numbers = list(range(len(values)))
    random.Random(1).shuffle(numbers)
    language = worker.language

    def echo(key: object, value: Value) -> Order:
        return order(name, language, "echo", {"str": f"r{name}:{key}"}, value)

    orders = [echo(number, values[number]) for number in numbers]
    if language == "python":
        keywords = {"key": {"str": f"r{name}:keywords"}, "value": {"str": "by name"}}
        orders.append(order(name, language, "echo", kwargs=keywords))
    result = Exchange(count=len(values))
    process = worker.start(url, folder / f"{name}.log", "work", name)
    try:
        refused = producer.produce(url, [*orders, echo("end", {"str": "end"})])
        result.refused = {numbers[place]: reason for place, reason in refused.items() if place < len(numbers)}
        if not _wait(client, f"r{name}:end"):  # one worker runs them in order, so the others are done
            result.wrong.append("the worker did not come to the end")
    finally:
        process.kill()
        process.wait()
    _compare(result, values, client, f"r{name}")
    if language == "python":
        result.keywords = client.llen(f"r{name}:keywords") == 1
    return result


def _wait(client: redis.Redis, key: str) -> bool:
    return any(client.blpop([key], 1) for _ in range(round(PATIENCE)))


def _compare(result: Exchange, values: list[Value], client: redis.Redis, key: str) -> None:
    for number, value in enumerate(values):
        came: Any = client.lrange(f"{key}:{number}", 0, -1)
        if not came:
            if number not in result.refused:
                result.lost.append(number)
        elif len(came) > 1:
            result.repeated.append(number)
        elif not matches(came[0], value):
            result.different[number] = came[0][:40].hex()
