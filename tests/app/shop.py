"""An application, whose tasks tests enqueue and run."""

import asyncio
import os
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from delayed import App, Retry, current_task


class Kind(Enum):
    GIFT = "gift"


@dataclass
class Address:
    street: str
    number: int


app = App(priorities=["mail"], queues=["bulk"])
seen: list[Any] = []


@app.task(queue="mail", retry=3)
async def welcome(user: int, total: str = "0") -> str:
    await asyncio.sleep(0)
    seen.append(("welcome", user, total))
    return f"{user}: {total}"


@app.task
def plain(number: int, *, twice: bool = False) -> int:
    seen.append(("plain", number, current_task().id))
    return number * (2 if twice else 1)


@app.task
def parent(number: int) -> str | None:
    return child.delay(number).id


@app.task(metadata={"kind": "child"})
def child(number: int) -> None:
    seen.append(("child", number, current_task().metadata))


@app.task
def again() -> None:
    seen.append(("again", current_task().attempt, current_task().id))
    if current_task().attempt < 3:
        raise Retry(0)


@app.task(result_ttl=60)
def patient() -> None:
    while True:
        current_task().check_cancelled()


@app.task(result_ttl=60)
def price(order: UUID, total: Decimal, kind: Kind, where: Address, lines: tuple[int, ...]) -> Decimal:
    seen.append(("price", order, total, kind, where, lines))
    return total * len(lines)


def unregistered() -> None:
    seen.append("unregistered")


@app.on_start
def start() -> None:
    seen.append(("start", os.getpid()))


@app.on_stop
def stop() -> None:
    seen.append(("stop", os.getpid()))


@app.task(queue="mail", result_ttl=60)
def ordered(number: int) -> Address:
    return Address("Street", number) if number > 0 else "nowhere"  # type: ignore[return-value]
