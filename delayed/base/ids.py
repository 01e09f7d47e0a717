"""Random tokens and digests."""

import hashlib
import os
import re
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from collections import deque

_DRAWN = 256  # tokens that are drawn at once: to ask the system for each would cost more than all the rest of it
_drawn: deque[str] = deque()
os.register_at_fork(after_in_child=_drawn.clear)  # the parent has the same ones
_ID = re.compile(r"[\w-]{16}", re.ASCII)  # it is cut off again by its length, and part of keys
_ENTRY = re.compile(r"\d{1,19}(-\d{1,19})?", re.ASCII)
ID_FORM = "16 letters, digits, - and _"


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


FLOW = 10  # characters of an id that say of which workflow a node is, and the rest which of its nodes
_PAD = "AA"  # so that what is left of the base64 is six bytes


def node_id(flow: str, index: int) -> str:
    """The id of the node with this index in a workflow; index -1 is the workflow itself."""
    return flow + urlsafe_b64encode((index + 1).to_bytes(6))[2:].decode()


def index_of(identity: str) -> int:
    """The opposite of `node_id`, of an id that is one."""
    text = _PAD + identity[FLOW:]
    if "-" in text or "_" in text:  # as in few: from base64url to base64
        text = text.replace("-", "+").replace("_", "/")
    return int.from_bytes(a2b_base64(text)) - 1


def is_id(text: str) -> bool:
    """Whether this has the form of the id of a task, or of a node or a workflow."""
    return _ID.fullmatch(text) is not None


def is_entry(text: str) -> bool:
    """Whether this has the form of the id of an entry of a stream: of a dead letter, say."""
    return _ENTRY.fullmatch(text) is not None


def new_id() -> str:
    """An id for a tracked task that nobody has used: give it to `enqueue` where an enqueue may have to be repeated."""
    return token()
