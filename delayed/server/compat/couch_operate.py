"""What CouchQueue's clients do as operators: it is in the audit, as what is done below /v1."""

import hashlib
from typing import NamedTuple

from ...dead_letters.letter import dead_letters
from ...dead_letters.retry import retry
from ...errors import InvalidAct
from ...ops.audit import Actor, Done, audited
from ...queue.queue import Queue
from ..access import Grant
from .couch_store import Record

_LOOKED_AT = 10_000  # dead letters, the newest first
_GONE = "this task is no dead letter any more: somebody else has retried or removed it"


class Client(NamedTuple):
    """Who asks."""

    grant: Grant
    address: str

    @property
    def actor(self) -> Actor:
        """The same, for the audit."""
        return self.grant.actor(self.address)


def fingerprint(data: bytes) -> str:
    """By which the bytes of a task are known again."""
    return hashlib.sha256(data).hexdigest()


def retry_record(queue: Queue, by: Actor, record: Record) -> None:
    """Put the dead letter of a task back, as it came. It blocks.

    Raises:
        InvalidAct: there is none.
    """
    found = (each for each in dead_letters(queue, _LOOKED_AT) if fingerprint(each.data) == record.get("bytes"))
    letter = next(found, None)

    def do() -> Done:
        if letter is None or not retry(queue, letter):
            raise InvalidAct(_GONE)
        return Done("dead.retry", queue.name, 1, "1 task waits again")

    audited(queue, by, "dead.retry", str(record["taskId"]) if letter is None else letter.id, do)
