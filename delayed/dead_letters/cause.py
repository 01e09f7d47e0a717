"""The cause of a dead letter: letters of one function that say the same, but for long numbers, have one cause."""

import hashlib
import re
from typing import NamedTuple

from ..base.text import clipped, summary
from .letter import DeadLetter

# Short numbers, such as the status 404 or an errno, are a part of what is said; ids and times are not.
_VARIES = re.compile(r"\b(?:0x)?(?=[0-9a-f-]*\d)[0-9a-f]{4,}(?:-[0-9a-f]{2,})*\b|\d{4,}", re.IGNORECASE)
_LONGEST = 500  # characters of what a letter says
_DIGITS = 8  # of a cause's id


class Cause(NamedTuple):
    """Why a task became a dead letter."""

    id: str
    task: str  # function path
    reason: str
    says: str  # of the error, with # for what varies


def cause_of(letter: DeadLetter) -> Cause:
    """The cause of a dead letter."""
    says = _VARIES.sub("#", clipped(summary(letter.said), _LONGEST))
    text = "\0".join((letter.task, letter.reason, says))
    identity = hashlib.sha1(text.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()[:_DIGITS]
    return Cause(identity, letter.task, letter.reason, says)
