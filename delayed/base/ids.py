"""Random tokens and digests."""

import hashlib
import os
from base64 import urlsafe_b64encode
from collections import deque

_DRAWN = 256  # tokens that are drawn at once: to ask the system for each would cost more than all the rest of it
_drawn: deque[str] = deque()
os.register_at_fork(after_in_child=_drawn.clear)  # the parent has the same ones


def digest(text: str) -> str:
    """The SHA-1 of a text, in hexadecimal: what stands in a key for a name of any length."""
    return hashlib.sha1(text.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()


def token() -> str:
    """Something that nobody can guess and nobody has used: 96 random bits in 16 characters, the first of which is no hyphen,
    as people write it on command lines."""
    while True:
        try:
            return _drawn.popleft()
        except IndexError:
            text = urlsafe_b64encode(os.urandom(12 * _DRAWN)).decode()
            found = (text[at : at + 16] for at in range(0, len(text), 16))
            _drawn.extend(f"_{each[1:]}" if each[0] == "-" else each for each in found)


def new_id() -> str:
    """An id for a tracked task that nobody has used: give it to `enqueue` where an enqueue may have to be repeated."""
    return token()
