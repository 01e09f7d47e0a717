"""A connection that a worker or a sweeper owns."""

import contextlib
import itertools
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import hiredis
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from .command import Client, as_bytes, is_misplaced, pack
from .connect import DEADLINE, dedicated, let_the_kernel_watch
from .scripts import SCRIPTS, Argument

INTERRUPTED = object()  # what `Channel.block` returns when it was woken
_MORE = object()  # what the parser returns while a reply is not complete
_HDEL, _HMGET = b"$4\r\nHDEL\r\n", b"$5\r\nHMGET\r\n"
_HUSH, _SPEAK, _ID = pack("CLIENT", "REPLY", "OFF"), pack("CLIENT", "REPLY", "ON"), pack("CLIENT", "ID")


class Ending(Protocol):
    """A command that ends a lease."""

    hash: bytes  # the key of the hash in which the lease holds its task, as `bulk`, and
    field: bytes  # the field that does
    more: bool  # it does more than HDEL of that field, so that this would not make up for it
    gone: bool  # the lease will not be used again

    @property
    def done(self) -> bytes:
        """The command."""

    def answered(self, reply: Any, repeated: bool) -> None:
        """It has been carried out; `repeated` if it was sent twice, so that a 0 may only mean that it worked before."""


class Delayed(Ending, Protocol):
    """One that may be sent later, with others."""

    script: str  # the name of what ends it with others of its queue; empty for HDEL


class Together(Delayed, Protocol):
    """One that ends so by a script."""

    def together(self, some: Sequence[Any]) -> bytes:
        """The command that ends all of these."""


class _Asked(NamedTuple):
    """Another command that ends a lease."""

    done: bytes
    answered: Callable[[Any, bool], None]
    hash: bytes = b""
    field: bytes = b""
    more: bool = False
    gone: bool = False


def _confirmations(
    posted: Iterable[Ending | _Asked], delayed: Iterable[Delayed] = ()
) -> list[tuple[bytes, list[Ending | _Asked]]]:
    """The commands that end what is `delayed`, and prove that and what was `posted`, and what each proves: for each hash one
    that does, or does once more, those which are HDEL, one that asks what is still held of the others that were posted, and
    one for each script that ends the others that are delayed."""
    found: dict[tuple[bytes, bytes | str], list[Ending | _Asked]] = {}
    for ending in posted:
        found.setdefault((ending.hash, _HMGET if ending.more else _HDEL), []).append(ending)
    for ending in delayed:
        found.setdefault((ending.hash, ending.script or _HDEL), []).append(ending)
    return [(_command(key, how, some), some) for (key, how), some in found.items()]


def _command(key: bytes, how: bytes | str, endings: list[Ending | _Asked]) -> bytes:
    if isinstance(how, str):
        return cast(Together, endings[0]).together(endings)
    return b"*%d\r\n%b%b%b" % (len(endings) + 2, how, key, b"".join([ending.field for ending in endings]))


def _held(reply: Any, endings: list[Ending | _Asked]) -> list[Ending | _Asked]:
    """Those of the `endings` that have not happened, as their confirmation says."""
    tasks = reply if isinstance(reply, list) else [None] * len(endings)
    return [ending for ending, task in zip(endings, tasks, strict=True) if task is not None]


class Channel:
    """One connection, owned by one thread, with a deadline for every reply.

    The ending of a lease can be *posted*: sent at once, without a reply (`CLIENT REPLY OFF`). With the next `call` all that
    was posted is said once more, in one command that has a reply: that does nothing where the first worked, ends what was
    refused, and proves that it is done. Where an ending does more than remove a field, it is asked instead what is still held,
    and did not end. Endings are fenced, so they may be repeated; after a fault `open` sends again what was not confirmed.

    The ending of a lease that is noted elsewhere, where it outlives this process, can be *delayed*: it goes with the next
    command, or with `push`; those that do more end by one script, whose reply is the proof. As the notes are cleared only when
    Redis has confirmed them, and a lease is used again only after that, what is noted stands for nothing else.

    Why no reply: a process that is killed while replies wait to be read resets its connection. Redis then fails to write to
    it, closes it, and drops what it had not read: endings that the process had sent long before.

    Args:
        client: says how to connect; none of its own connections is used.
        key: any key of the queues that the channel is for; on a cluster it decides which server.
        deadline: seconds that a reply may take before the connection is given up.
    """

    def __init__(self, client: Client, key: str, deadline: float = DEADLINE) -> None:
        self.client_id = 0  # of the connection, on the server; 0 if it does not say
        self._client = client
        self._deadline = deadline
        self._key = as_bytes(key)
        self._connection: Any = None
        self._posted: deque[Ending | _Asked] = deque()
        self._delayed: list[Delayed] = []  # not sent yet
        self._lock = threading.Lock()  # of these
        self._beside: list[tuple[bytes, Callable[[Any], None] | None]] = []  # commands that go behind what proves them
        self._behind: tuple[bytes, Callable[[Any], None]] | None = None  # goes after the next command,
        self._promised: Callable[[Any], None] | None = None  # and has been sent so: it hears the next reply
        self.confirmed: Callable[[], None] = lambda: None  # called when Redis has done all that was posted and delayed
        self._loud = 0  # how many of them, from the first, will have a reply …
        self._repeated = 0  # … and how many have been sent before
        self._silent = False  # Redis sends no replies at the moment
        self._can_be_silent = True  # some proxies do not know CLIENT REPLY
        self.send: Callable[[bytes], None] = self._refuse

    def open(self) -> None:
        """Connect, make sure that the server has the scripts, and send again what was posted and not answered.

        Raises:
            redis.exceptions.RedisError: no connection, or one that is not usable.
        """
        self.close()
        connection = dedicated(self._client, self._key, self._deadline)
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:  # a name that does not resolve, a socket file that is not there
            raise ConnectionError(str(error)) from error
        self._connection = connection
        self._sock: socket.socket = connection._sock  # redis-py has no public name for it
        let_the_kernel_watch(self._sock, self._deadline)
        self._reader = hiredis.Reader(protocolError=ConnectionError, replyError=ResponseError, notEnoughData=_MORE)
        self.send = self._send
        self._load_scripts()
        self._send(_ID + _SPEAK)
        identity = self.read()
        self.client_id = identity if isinstance(identity, int) else 0
        self._can_be_silent = not isinstance(self.read(), ResponseError)
        self._take_delayed()
        self._loud = self._repeated = len(self._posted)
        for ending in self._posted:
            self._send(ending.done)

    def _load_scripts(self) -> None:
        """Send the scripts that the server lacks. (Some servers write each one that they are sent to replicas, and to the
        append-only file.)"""
        self._send(pack("SCRIPT", "EXISTS", *(script.sha for script in SCRIPTS.values())))
        known = self.read()
        if isinstance(known, ResponseError):  # it may not be asked
            known = [0] * len(SCRIPTS)
        lacking = [script for script, there in zip(SCRIPTS.values(), known, strict=True) if not there]
        self._send(b"".join(pack("SCRIPT", "LOAD", script.source) for script in lacking))
        for _ in lacking:
            self._checked(self.read())

    def close(self) -> None:
        """Drop the connection. What was posted stays known until it has been confirmed over another one."""
        self.send = self._refuse
        self._silent, self._loud = False, 0
        self._behind = self._promised = None
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def interrupt(self) -> None:
        """From another thread: let whoever waits for a reply find the connection broken."""
        if self._connection is not None:
            with contextlib.suppress(OSError):  # its owner has just closed it
                self._sock.shutdown(socket.SHUT_RDWR)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._connection is not None

    def fileno(self) -> int:
        """A descriptor that becomes readable when an idle connection has broken; -1 if there is none (to poll TLS says
        nothing: what arrives may be its own)."""
        return -1 if self._connection is None or isinstance(self._sock, ssl.SSLSocket) else self._sock.fileno()

    def call(self, *command: Argument) -> Any:
        """Send a command and return its reply.

        Raises:
            redis.exceptions.ConnectionError: the connection is gone, or this server cannot carry out the command now.
            redis.exceptions.TimeoutError: no reply within the deadline.
            redis.exceptions.ResponseError: Redis refused the command itself.
        """
        return self.exchange(pack(*command), 1)[0]

    def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send `count` packed commands at once and return their replies; raises as `call`, for the first that failed."""
        return [self._checked(reply) for reply in self.replies(packed, count)]

    def replies(self, packed: bytes, count: int) -> list[Any]:
        """As `exchange`, with an error that is a reply among the others."""
        self._speak(packed)
        found = [self.read() for _ in range(count)]
        if self._behind is not None:
            (more, self._promised), self._behind = self._behind, None
            self.send(more)
        return found

    def post(self, ending: "Ending") -> None:
        """End a lease that lives for certain; `ending.answered(1, False)` confirms it later."""
        self._posted.append(ending)
        if self._silent:
            self.send(ending.done)
        elif self._can_be_silent:
            self._silent = True
            self.send(_HUSH + ending.done)
        else:
            self._loud += 1
            self.send(ending.done)

    def mention(self, packed: bytes) -> bool:
        """Send a command to whose reply nobody listens, if endings are being posted so. It is sent once, whatever becomes
        of it: for what somebody else does in time if this does not. Returns whether it was sent."""
        if self._silent:
            self.send(packed)
        return self._silent

    def beside(self, packed: bytes, hear: Callable[[Any], None] | None = None) -> None:
        """Send a command behind the endings so far, with what is to be replied to next. It is not sent again. Only `hear`
        listens to its reply, which may be an error."""
        self._beside.append((packed, hear))

    def behind(self, packed: bytes, hear: Callable[[Any], None]) -> None:
        """Send a command as soon as there is a reply to the next one, and do not wait for its own: `hear` gets that, which may
        be an error, before anything else is asked for, or when `heard` is called. It is not sent again. (Were they sent
        together, Redis would carry out both before it replies to the first.)"""
        self._behind = packed, hear

    def heard(self) -> None:
        """Wait for the reply to what was sent `behind` another command; raises as `call`."""
        if self._promised is not None:
            hear, self._promised = self._promised, None
            hear(self.read())

    def delay(self, ending: Delayed) -> int:
        """As `post`, of an ending that is noted elsewhere: it is sent later. Returns how many are."""
        self._delayed.append(ending)
        return len(self._delayed)

    def push(self) -> None:
        """Send what was delayed, as if it were posted."""
        if self._delayed and self._can_be_silent:
            delayed = self._take_delayed()
            commands = b"".join(command for command, _ in _confirmations((), delayed))
            hush, self._silent = b"" if self._silent else _HUSH, True
            self.send(hush + commands)

    @property
    def has_delayed(self) -> bool:
        """Whether something is delayed."""
        return bool(self._delayed)

    def give_delayed(self) -> list[Delayed]:
        """From another thread, which ends them over a connection of its own: what is delayed. These leases will not be used
        again, as nobody knows when such a command arrives."""
        with self._lock:
            for ending in self._delayed:
                ending.gone = True
            return list(self._delayed)

    def _take_delayed(self) -> list[Delayed]:
        with self._lock:
            delayed, self._delayed = self._delayed, []
        self._posted.extend(delayed)
        return delayed

    def ask(self, packed: bytes, answered: Callable[[Any, bool], None]) -> None:
        """Send a fenced command and wait for its reply: `answered(reply, repeated)`; `repeated` if it was sent twice, so that
        a 0 may only mean that it worked the first time. Raises as `call`; then it will be sent again."""
        ending = _Asked(packed, answered)
        try:
            self.settle()
        except RedisError:
            self._posted.append(ending)  # its task has run: it must not be given back
            raise
        self._posted.append(ending)
        self._loud += 1
        self.send(packed)
        self.settle()

    def settle(self) -> None:
        """Wait until all that was posted is done; raises as `call`."""
        if self._posted or self._delayed or self._beside:
            self._speak(b"")

    def _speak(self, packed: bytes) -> None:
        """Send `packed`, to be replied to, and read what comes before its reply."""
        self.heard()
        beside, self._beside = self._beside, []
        if not self._silent and not self._delayed:
            self.send(b"".join((*(command for command, _ in beside), packed)) if beside else packed)
            self._read_answers()
            for _, hear in beside:
                self._hear(hear)
            self.confirmed()
            return
        speak, self._silent = _SPEAK if self._silent else b"", False
        posted = list(itertools.islice(self._posted, self._loud, None))
        confirmations = _confirmations(posted, self._take_delayed())
        self.send(b"".join((speak, *(command for command, _ in (*confirmations, *beside)), packed)))
        self._read_answers()
        if speak:
            self._checked(self.read())
        held = [ending for _, some in confirmations for ending in _held(self._checked(self.read()), some)]
        for _, hear in beside:
            self._hear(hear)
        while self._posted:
            ending = self._posted.popleft()
            if ending not in held:
                ending.answered(1, False)
        if held:
            self._posted.extend(held)
            raise self._broken(ConnectionError("Redis has not carried out what ends tasks; it is sent again"))
        self.confirmed()

    def _hear(self, hear: Callable[[Any], None] | None) -> None:
        """Read the reply to what was sent beside others; it may have been refused."""
        reply = self.read()
        if hear is not None:
            hear(reply)

    def _read_answers(self) -> None:
        """Read the replies to what was sent with replies; what was refused stays posted."""
        while self._loud:
            reply = self._checked(self.read())
            ending = self._posted.popleft()
            self._loud -= 1
            repeated = self._repeated > 0
            self._repeated -= repeated
            ending.answered(reply, repeated)

    def block(self, packed: bytes, seconds: float, wake: int) -> Any:
        """Send a blocking command and return its reply.

        Args:
            packed: the command.
            seconds: when to give the connection up.
            wake: a descriptor; when it becomes readable, the command is abandoned, with the connection.

        Returns:
            The reply, or `INTERRUPTED`.
        """
        self._speak(packed)
        if not self._reader.has_data():
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            poll.register(wake, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
            if wake in ready:
                self.close()
                return INTERRUPTED
            if not ready:
                raise self._broken(TimeoutError())
        return self._checked(self.read())

    def listen(self, seconds: float, *wake: int) -> bool:
        """Wait for a reply to what was sent by `send`, for so many seconds at most, or until one of the descriptors `wake` is
        readable. Returns whether there is one."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        for descriptor in wake:
            poll.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)]
        return self._sock.fileno() in ready

    def answer(self) -> Any:
        """The reply to a command that was sent by `send`; raises as `call`."""
        return self._checked(self.read())

    def read(self) -> Any:
        """The next reply; an error reply is returned, not raised."""
        gets = self._reader.gets
        reply = gets()
        while reply is _MORE:
            try:
                data = self._sock.recv(65536)
            except OSError as error:
                raise self._broken(error) from error
            if not data:
                raise self._broken(ConnectionError("the server closed the connection"))
            self._reader.feed(data)
            reply = gets()
        return reply

    def _send(self, packed: bytes) -> None:
        try:
            self._sock.sendall(packed)
        except OSError as error:
            raise self._broken(error) from error

    def _refuse(self, _packed: bytes) -> None:
        raise ConnectionError("there is no connection to Redis at the moment")

    def _checked(self, reply: Any) -> Any:
        if isinstance(reply, ResponseError):
            if is_misplaced(reply):
                raise self._broken(reply)
            raise reply
        return reply

    def _broken(self, error: Exception) -> RedisError:
        self.close()
        if isinstance(error, TimeoutError | socket.timeout | BlockingIOError):
            return TimeoutError("Redis did not answer in time")
        return error if isinstance(error, ConnectionError) else ConnectionError(str(error))
