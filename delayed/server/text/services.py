"""What all connections of the text protocol share."""

from dataclasses import dataclass, field

from ..consumer import Consumer
from ..links import Links
from ..numbers import NumberedTasks
from .bodies import Wrapping
from .door import Door


@dataclass(slots=True)
class Services:
    """What all connections share.

    Args:
        links: the queues.
        consumer: hands out tasks,
        numbered: likewise, by numbers.
        door: who may do what.
        ttl: seconds in which a task has to be ended, if a request says nothing else.
        most: bytes that a body may have.
    """

    links: Links
    consumer: Consumer
    numbered: NumberedTasks
    door: Door
    ttl: float
    most: int
    wrapping: Wrapping = field(default_factory=Wrapping)
    ending: bool = False  # the server stops: nothing more is read
