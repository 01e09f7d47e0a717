"""One command that ends the leases of several tasks which hold something: made of parts, one for each, which can be noted."""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from .command import bulk
from .keys import Keys
from .scripts import SCRIPTS

_SCRIPTS = ("finish_many", "finish_held")
_HEADS = {"finish_many": 1, "finish_held": 4}  # keys of the queue, before those of the tasks
_KEYS = {"finish_many": 1, "finish_held": 3}  # of each task
_WORDS = {"finish_many": 3, "finish_held": 4}
_LONGEST = 0xFFFF
_HEAD = Struct(">BHQ")  # of a note: which script, how many bytes of keys, when it ended


class Part(NamedTuple):
    """What one task adds to a command."""

    script: str
    ended: int  # when, in milliseconds since 1970
    keys: bytes  # in the bytes of the Redis protocol,
    words: bytes  # and so are the arguments

    @property
    def text(self) -> bytes:
        """As it is noted; empty if it is too long."""
        if len(self.keys) > _LONGEST:
            return b""
        return _HEAD.pack(_SCRIPTS.index(self.script), len(self.keys), self.ended) + self.keys + self.words

    @classmethod
    def of(cls, text: bytes) -> "Part":
        """What was noted."""
        script, size, ended = _HEAD.unpack_from(text)
        end = _HEAD.size + size
        return cls(_SCRIPTS[script], ended, text[_HEAD.size : end], text[end:])


def together(own: Keys, parts: Sequence[Part]) -> bytes:
    """The command that ends all of these, which are of one script, and have ended about when the first one did. It returns how
    many leases held their task still.

    Args:
        own: the keys of the queue.
        parts: one for each task.
    """
    name, count = parts[0].script, len(parts)
    keys = _HEADS[name] + count * _KEYS[name]
    head = own.home[: _HEADS[name]]
    return b"".join(
        (
            b"*%d\r\n" % (4 + keys + count * _WORDS[name]),
            bulk("EVALSHA"),
            bulk(SCRIPTS[name].sha),
            bulk(str(keys)),
            *map(bulk, head),
            *(part.keys for part in parts),
            bulk(str(parts[0].ended)),
            *(part.words for part in parts),
        )
    )
