"""Which processes there are, and how they are started."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.support.proxy import Proxies
from tests.support.servers import free_port

from .events import CONSUMER, GO_WORKER, PRODUCER, SERVER, SUPERVISOR, SWEEPER, WORKER
from .member import ROOT, ROUGH, STALE, Member
from .notes import PATH
from .options import BLOCKED, FLAPPING, SERVERS, SLOW, Options
from .options import ROUGH as ROUGH_ONES
from .options import STALE as STALE_ONES
from .output import Output
from .tasks import HALF

QUEUE, GO_QUEUE = "storm", "storm-go"
TEXT_QUEUE = "storm-text"  # from which only consumers take
TICKS = "storm-ticks"  # a queue that is swept, and from which nobody takes
CHILDREN = 2  # of each supervisor
_PROGRAMS = ("delayed-worker", "delayed-sweeper", "flow-creator")  # of the Go module
_SERVERS = 3
RANGE = 1 << 20  # task numbers for one producer process; the first such range is for nobody


def go_programs() -> Path | None:
    """The folder with the Go module's programs, if scripts/chaos could build them."""
    folder = ROOT / ".cache"
    return folder if all((folder / name).exists() for name in _PROGRAMS) else None


def worker_command(options: Options, *more: str, functions: Sequence[str] = ("*",)) -> list[str]:
    """A Python worker with short leases."""
    times = [f"--keep-alive-timeout={options.ttl}", f"--keep-alive-interval={options.beat}", "--dequeue-timeout=0.5"]
    allowed = [f"--allow=chaos.tasks:{name}" for name in functions]
    fixed = ["worker", QUEUE, *allowed, f"--limit={options.limit}", f"--grace={options.grace}", *times, *more]
    return [sys.executable, "-m", "delayed", *fixed]


def rough_command(options: Options) -> list[str]:
    """A Python worker whose application raises where it should not."""
    return [sys.executable, "-m", "chaos.rough", QUEUE, str(options.ttl), str(options.beat), str(options.grace)]


def go_worker_command(options: Options, folder: Path) -> list[str]:
    """A Go worker with short leases."""
    times = [
        "-ttl",
        f"{options.ttl}s",
        "-beat",
        f"{options.beat}s",
        "-dequeue-timeout",
        "500ms",
        "-grace",
        f"{options.grace}s",
    ]
    return [str(folder / "delayed-worker"), "-queues", GO_QUEUE, *times]


def sweeper_command(options: Options, names: Sequence[str]) -> list[str]:
    """A Python sweeper."""
    return [sys.executable, "-m", "delayed", "sweeper", *names, f"--interval={options.sweep}", f"--limit={options.limit}"]


class Fleet:
    """All members, and the ports of the proxy: one for each group that can be cut off.

    Args:
        options: of the storm.
        redis_port: where Redis is.
        folder: for logs.
        notes: where tasks and producers write.
        go: where the Go programs are, if they are.
        environment: of all members.
    """

    def __init__(
        self,
        options: Options,
        redis_port: int,
        folder: Path,
        notes: Path,
        *,
        go: Path | None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._options = options
        self._folder = folder
        self._port = redis_port
        self._environment = dict(environment)
        self._numbers = 0  # members and producers so far
        self.queues = [QUEUE, GO_QUEUE] if go else [QUEUE]  # of the workers
        self.text_queues = [TEXT_QUEUE] if SERVERS in options.troubles else []
        self.swept = [*self.queues, *self.text_queues, TICKS]
        self.notes = notes
        self.proxies = Proxies(redis_port, 7)
        self._http, self._text = ([free_port() for _ in range(_SERVERS)] for _ in range(2))  # where servers listen
        self.members = list(self._members(go))

    def _members(self, go: Path | None) -> Iterator[Member]:
        options = self._options
        supervised = worker_command(options, f"--concurrency={CHILDREN}", "--preload=chaos.tasks")
        alone = worker_command(options)
        far = bool({SLOW, FLAPPING} & options.troubles)  # all sweepers
        yield self._member(SUPERVISOR, supervised)
        yield self._member(SUPERVISOR, supervised, 0)
        yield self._member(WORKER, alone, 1)
        yield self._member(SWEEPER, sweeper_command(options, self.swept), 4 if far else None)
        yield self._member(SWEEPER, sweeper_command(options, self.swept), 2)
        if go:
            yield self._member(GO_WORKER, go_worker_command(options, go))
            yield self._member(GO_WORKER, go_worker_command(options, go), 3)
            words = ["-queues", ",".join(self.swept), "-interval", f"{options.sweep}s", "-limit", str(options.limit)]
            yield self._member(SWEEPER, [str(go / "delayed-sweeper"), *words], 5 if far else None)
        if STALE_ONES in options.troubles:
            yield self._member(STALE, worker_command(options, functions=("execute", "tick")))
            yield self._member(STALE, alone, environment={HALF: "1"})
            if go:
                yield self._member(STALE, go_worker_command(options, go), environment={HALF: "1"})
        if ROUGH_ONES in options.troubles:
            yield self._member(ROUGH, rough_command(options))
        if SERVERS in options.troubles:
            yield from self._around_servers()
        for _ in range(2):
            member = self._member(PRODUCER, [])
            member.command = self._producer_command
            yield member

    def _around_servers(self) -> Iterator[Member]:
        """Servers, and those who know nothing else of the queues."""
        for number, (http, text) in enumerate(zip(self._http, self._text, strict=True)):
            words = ["server", f"--http=127.0.0.1:{http}", f"--text=127.0.0.1:{text}"]
            yield self._member(SERVER, [sys.executable, "-m", "delayed", *words], None if number else 6)
        program, ttl = [sys.executable, "-m", "chaos.consumer"], str(self._options.ttl)
        for _ in range(2):
            yield self._member(CONSUMER, [*program, "http", ttl, _listed(self._http), *self.queues, *self.text_queues])
        yield self._member(CONSUMER, [*program, "text", ttl, _listed(self._text), *self.text_queues])
        producer = self._member(PRODUCER, [])
        producer.command = self._remote_producer_command
        yield producer

    def _member(
        self,
        kind: str,
        command: list[str],
        gate: int | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Member:
        self._numbers += 1
        port = self._port if gate is None else self.proxies.ports[gate]
        variables = {PATH: str(self.notes), "DELAYED_REDIS_URL": f"redis://127.0.0.1:{port}/0", "PYTHONUNBUFFERED": "1"}
        log = self._folder / f"{self._numbers}-{kind.replace(' ', '-')}.log"
        output = Output(log) if BLOCKED in self._options.troubles and kind not in (PRODUCER, CONSUMER) else None
        return Member(kind, lambda: command, {**variables, **self._environment, **environment}, log, gate, output)

    def _producer_command(self) -> list[str]:
        """Each producer process has numbers of its own."""
        first, seed = self._new_numbers()
        mode, troubles = "stormy" if self._options.stormy else "steady", ",".join(sorted(self._options.troubles))
        words = [mode, troubles, str(first), str(seed), str(self._options.depth), *self.queues]
        return [sys.executable, "-m", "chaos.producer", *words]

    def _remote_producer_command(self) -> list[str]:
        """Likewise."""
        first, seed = self._new_numbers()
        queues = [self.queues[0], *self.text_queues, *self.queues[1:]]
        words = [str(first), str(seed), _listed(self._http), _listed(self._text), *queues]
        return [sys.executable, "-m", "chaos.remote_producer", *words]

    def _new_numbers(self) -> tuple[int, int]:
        """The first number of a producer process, and a seed."""
        self._numbers += 1
        return self._numbers * RANGE, self._options.seed * 1_000_003 + self._numbers

    @property
    def sweeper_gates(self) -> list[int]:
        """Of all sweepers that reach Redis through the proxy."""
        return [member.gate for member in self.of(SWEEPER) if member.gate is not None]

    def of(self, *kinds: str) -> list[Member]:
        """The members of some kinds."""
        return [member for member in self.members if member.kind in kinds]


def _listed(ports: Sequence[int]) -> str:
    return ",".join(map(str, ports))
