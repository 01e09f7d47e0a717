"""What the workers of a simulation run: functions that take a while, and fail at times."""

import os
import random
import time
from typing import Any

from ..job.job import current_task

RUN_TIME = "DELAYED_SIMULATED_RUN_TIME"  # variables: seconds that a function runs at most,
FAILURE_RATE = "DELAYED_SIMULATED_FAILURE_RATE"  # and the share of the attempts that fail
_PIECES = 4  # of a picture


class Refused(Exception):
    """A payment is not accepted, however often it is tried."""


def work(share: float, error: Exception) -> None:
    """Run for a random time, at most this share of what is allowed, and then perhaps fail."""
    time.sleep(random.uniform(0, share * float(os.environ.get(RUN_TIME, "0.5"))))
    if random.random() < float(os.environ.get(FAILURE_RATE, "0.05")):
        raise error


def send_mail(address: str, template: str) -> None:  # noqa: ARG001  # as arguments are shown
    """Retried, until it succeeds or there were too many attempts."""
    work(1, ConnectionError("smtp.example: connection refused"))


def resize(picture: str, width: int) -> dict[str, Any]:
    """Says how far it is, and gives up at once if it is no picture."""
    for piece in range(_PIECES):
        work(1 / _PIECES, ValueError(f"{picture} is no picture") if piece == 0 else OSError("no space left on device"))
        current_task().progress(piece + 1, _PIECES, picture)
    return {"picture": picture, "width": width}


def charge(order: int, amount: float) -> float:
    """One at a time for each customer."""
    work(1, Refused(f"order {order}: the card has expired") if order % 2 else TimeoutError("payments.example: no answer"))
    return amount


def ship(customer: str, parcel: int) -> None:
    """In turn with those of other customers."""
    work(1, LookupError(f"parcel {parcel} for {customer} is not in the store"))


def remind(address: str) -> None:  # noqa: ARG001
    """Planned for later."""
    work(0.2, ConnectionError("smtp.example: connection refused"))


def reserve(order: int) -> int:
    """The first node of an order."""
    work(0.5, LookupError(f"order {order}: sold out"))
    return order


def pack(item: int) -> int:
    """One of many nodes of an order."""
    work(0.5, LookupError(f"item {item} is not in the store"))
    return item


def hand_over() -> None:
    """The last node of an order."""
    work(0.5, ConnectionError("carrier.example: connection refused"))


def apologize() -> None:
    """What follows on a failure."""


def clean_up() -> None:
    """What a schedule runs."""
    work(0.2, OSError("the disk is read-only"))


def count_order(order: dict[str, Any]) -> None:
    """What a queue with an interest in orders runs."""
