"""Which core does what. Redis and the measured process have one each: the placement alone can change a round trip by a factor
of four, so it must not be left to chance."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from delayed.redis.embedded import EmbeddedRedis
from tests.support.servers import open_redis

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "bench" / "peers"
CACHE = ROOT / ".cache" / "bench"
_SLOW_LOG = {"slowlog-log-slower-than": "1000", "slowlog-max-len": "1000"}  # scripts of a millisecond and more


def cores(shared: bool = False) -> tuple[int, int]:
    """The core of Redis and that of the measured process; the same one if `shared` or if there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[0 if shared else -1]


REDIS_CORE, WORK_CORE = cores(shared=os.environ.get("BENCH_SHARED") == "1")


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread, and the processes that it starts meanwhile, stay on `core`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of the benchmark's own, on its core, without persistence."""
    with on_core(REDIS_CORE), open_redis(options=_SLOW_LOG) as embedded:
        yield embedded


def environment(**more: str) -> dict[str, str]:
    """What a contender's process gets: it finds the modules beside its script."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DELAYED_", "REDIS_"))}
    return {**clean, "PYTHONPATH": str(PEERS), "PYTHONWARNINGS": "ignore", **more}


def start(command: Sequence[str], variables: Mapping[str, str], log: Path, cwd: Path = PEERS) -> subprocess.Popen[bytes]:
    """Start a program on the core of the measured process, in a session of its own, so that its children end with it."""
    with on_core(WORK_CORE), log.open("ab") as output:
        return subprocess.Popen(
            command, env=environment(**variables), stdout=output, stderr=output, cwd=cwd, start_new_session=True
        )
