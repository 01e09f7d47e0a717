"""Bytes of the text protocol in, requests out. It knows no network and no Redis, and keeps an unfinished frame at most."""

import re
from dataclasses import dataclass, field

MOST_LINE = 4096  # bytes of a line, without a body
MOST_SKIPPED = 64 << 20  # bytes of a body that is too large and is passed over; beyond, the connection is closed
_MOST_RID = 2**64 - 1
_DIGITS = 20  # of a number
_NUMBER = re.compile(rb"[0-9]{1,20}")
_OPTION = re.compile(rb"([a-z]+)=(\S+)")
VERBS = (b"enq", b"deq", b"ack", b"ext", b"nack", b"bury", b"stat", b"HELLO")
_USUAL = re.compile(rb"([0-9]{1,20}) enq ([^ \r\n]{0,250}) ([0-9]{1,8}) ")
_SMALL = 1 << 16  # bytes kept of a request that is not complete, beyond which they are not looked at as a whole each time
_SPACE, _LF, _CR, _NUL = 0x20, 0x0A, 0x0D, 0x00


@dataclass(slots=True)
class Request:
    """A request.

    Args:
        rid: its number, which the client has chosen.
        verb: what it asks for.
        queue: the name of a queue, as the client has written it.
        id: of a task.
        body: of a task.
        rest: what follows in the line.
        nul: of an `ack`: whether a byte 0 follows the line; None if that is not known yet.
        answered: one that was carried out with others has had its reply, whatever becomes of those.
    """

    rid: int
    verb: str
    queue: bytes = b""
    id: bytes = b""
    body: bytes = b""
    rest: bytes = b""
    nul: bool | None = None
    answered: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Fault:
    """What is no request.

    Args:
        rid: of the request, if that could be read.
        why: what is wrong.
        fatal: nobody knows where the next request begins: the connection has to be closed.
    """

    rid: int | None
    why: str
    fatal: bool = True


class Parser:
    """Reads requests.

    Args:
        most: bytes that a body may have.
    """

    def __init__(self, most: int) -> None:
        self.extended = False  # HELLO has been said: a line of deq may have options
        self.most = most
        self._buffer = bytearray()
        self._at = 0
        self._skip = 0  # bytes of a body that is passed over
        self._skipped: int | None = None  # the request that it belongs to
        self._ack: Request | None = None  # behind it there may be a byte 0
        self.broken = False  # nothing is read any more: the connection has to be closed

    @property
    def unfinished(self) -> bool:
        """Whether a request has begun and has not ended."""
        return bool(self._buffer) or self._skipped is not None

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Request | Fault]:
        """The requests that are complete with these bytes."""
        found: list[Request | Fault] = []
        if not self.broken:
            self._buffer += data
            if len(self._buffer) <= _SMALL + 2 * len(data):
                self._quickly(found)
            while self._step(found):
                pass
            del self._buffer[: self._at]
            self._at = 0
        return found

    def _quickly(self, found: list[Request | Fault]) -> None:
        """Read requests that are complete and nothing but usual, up to the first other one, which `_step` reads."""
        if self._skipped is not None or self._ack is not None:
            return
        data, at, most = bytes(self._buffer), self._at, self.most
        while usual := _USUAL.match(data, at):
            rid, size = int(usual[1]), int(usual[3])
            body = usual.end()
            end = body + size
            if not 0 < size <= most or rid > _MOST_RID or data[end : end + 1] != b"\n":
                break
            found.append(Request(rid, "enq", usual[2], b"", data[body:end]))
            at = end + 1
        self._at = at

    def _step(self, found: list[Request | Fault]) -> bool:
        """Read one more request. Whether there may be another one."""
        if self._skipped is not None:
            return self._pass_over(found, self._skipped)
        if self._ack is not None:
            if self._at >= len(self._buffer):
                return False
            self._ack.nul = self._buffer[self._at] == _NUL
            self._at += self._ack.nul
            self._ack = None
        try:
            request = self._request()
        except _Broken as broken:
            found.append(Fault(broken.rid, broken.why, broken.fatal))
            if broken.fatal:
                self.broken, self._at = True, len(self._buffer)
            return not broken.fatal
        if request is None:
            return self._skipped is not None
        found.append(request)
        if request.verb == "ack":
            self._ack = request
        return True

    def _pass_over(self, found: list[Request | Fault], rid: int) -> bool:
        """Pass a body over that is too large, and the end of its line."""
        passed = min(self._skip, len(self._buffer) - self._at)
        self._at += passed
        self._skip -= passed
        if self._skip:
            return False
        try:
            end = self._ended(rid, self._at)
        except _Broken as broken:
            self.broken, self._at = True, len(self._buffer)
            found.append(Fault(rid, broken.why))
            return False
        if end is None:
            return False
        self._at, self._skipped = end, None
        found.append(Fault(rid, f"a body has {self.most} bytes at most", fatal=False))
        return True

    def _request(self) -> Request | None:
        """The next request; None if it is not complete."""
        buffer, at = self._buffer, self._at
        space = buffer.find(b" ", at, at + _DIGITS + 1)
        if space < 0:
            if len(buffer) - at > _DIGITS or (len(buffer) > at and not _NUMBER.fullmatch(buffer, at)):
                raise _Broken(None, "a request begins with its number, of 64 bits, and a space")
            return None
        rid = self._number(at, space)
        if rid is None or rid > _MOST_RID:
            raise _Broken(None, "a request begins with its number, of 64 bits, and a space")
        if buffer.startswith(b"enq ", space + 1):
            return self._enq(rid, space + 5)
        end = buffer.find(b"\n", space, at + MOST_LINE)
        if end < 0:
            if len(buffer) - at >= MOST_LINE:
                raise _Broken(rid, f"a line has {MOST_LINE} bytes at most")
            return None
        self._at = end + 1
        line = bytes(buffer[space + 1 : end - (buffer[end - 1] == _CR)])
        return self._line(rid, *line.partition(b" ")[::2])

    def _number(self, first: int, end: int) -> int | None:
        if not _NUMBER.fullmatch(self._buffer, first, end):
            return None
        return int(self._buffer[first:end])

    def _enq(self, rid: int, at: int) -> Request | None:
        """QUEUE LEN BODY, and the end of the line."""
        buffer = self._buffer
        space = buffer.find(b" ", at, at + MOST_LINE)
        second = buffer.find(b" ", space + 1, space + 2 + _DIGITS) if space >= 0 else -1
        line = buffer.find(b"\n", at, second if second >= 0 else at + MOST_LINE)
        longest = MOST_LINE if space < 0 else space + 1 - at + _DIGITS
        if line >= 0 or (second < 0 and len(buffer) - at >= longest):
            raise _Broken(rid, "enq QUEUE LEN BODY: the name of a queue and a number of bytes are missing")
        if second < 0:
            return None
        size = self._number(space + 1, second)
        if size is None:
            raise _Broken(rid, "enq QUEUE LEN BODY: LEN is a number of bytes")
        queue = bytes(buffer[at:space])
        body = second + 1
        if size == 0:
            return self._measured(rid, queue, body)
        if size > self.most:
            if size > MOST_SKIPPED:
                raise _Broken(rid, f"a body has {self.most} bytes at most")
            self._at, self._skip, self._skipped = body, size, rid
            return None
        end = self._ended(rid, body + size)
        if end is None:
            return None
        self._at = end
        return Request(rid, "enq", queue, body=bytes(buffer[body : body + size]))

    def _measured(self, rid: int, queue: bytes, body: int) -> Request | None:
        """A body whose length is not given ends with the line."""
        end = self._buffer.find(b"\n", body, body + MOST_LINE)
        if end < 0:
            if len(self._buffer) - body >= MOST_LINE:
                raise _Broken(rid, f"without a LEN, a body has {MOST_LINE} bytes at most, and ends with the line")
            return None
        last = end - (end > body and self._buffer[end - 1] == _CR)
        self._at = end + 1
        return Request(rid, "enq", queue, body=bytes(self._buffer[body:last]))

    def _ended(self, rid: int, at: int) -> int | None:
        """Where the next request begins, if a line ends here; None if that is not known yet."""
        buffer = self._buffer
        if at >= len(buffer):
            return None
        if buffer[at] == _LF:
            return at + 1
        if buffer[at] == _CR:
            if at + 1 >= len(buffer):
                return None
            if buffer[at + 1] == _LF:
                return at + 2
        raise _Broken(rid, "a line end is missing behind the body, or LEN is wrong")

    def _line(self, rid: int, verb: bytes, rest: bytes) -> Request:
        name = verb.decode("latin-1")
        if verb == b"deq":
            queue, _, options = rest.partition(b" ") if self.extended else (rest, b"", b"")
            return Request(rid, name, queue, rest=options)
        if verb == b"ack":
            queue, space, task = rest.partition(b" ")
            if not space or not task or b" " in task:
                raise _Broken(rid, "ack QUEUE TASKID", fatal=not self.extended)
            return Request(rid, name, queue, task)
        if verb == b"HELLO":
            self.extended = True  # what follows may have come with it
            return Request(rid, name, rest=rest)
        if verb not in VERBS or not self.extended:
            said = "it is said after HELLO" if verb in VERBS else "there is enq, deq and ack, and more after HELLO"
            raise _Broken(rid, f"no such verb: {said}", fatal=not self.extended)
        if verb == b"stat":
            return Request(rid, name, rest)
        queue, _, rest = rest.partition(b" ")
        task, _, rest = rest.partition(b" ")
        if not task:
            raise _Broken(rid, f"{name} QUEUE TASKID …", fatal=False)
        return Request(rid, name, queue, task, rest=rest)


class _Broken(Exception):
    def __init__(self, rid: int | None, why: str, *, fatal: bool = True) -> None:
        super().__init__(why)
        self.rid, self.why, self.fatal = rid, why, fatal


def options_in(rest: bytes, known: tuple[str, ...]) -> tuple[dict[str, bytes], bytes]:
    """The options `name=value` at the beginning of a line's rest, and what follows them.

    Raises:
        ValueError: one is named that there is not, or twice.
    """
    found: dict[str, bytes] = {}
    while rest:
        word, _, others = rest.partition(b" ")
        option = _OPTION.fullmatch(word)
        if option is None:
            break
        name = option[1].decode()
        if name not in known or name in found:
            raise ValueError(f"there is no option {name} here, or it is there twice; there is {', '.join(known)}")
        found[name] = option[2]
        rest = others
    return found, rest
