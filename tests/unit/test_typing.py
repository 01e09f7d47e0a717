"""What a type checker makes of an application: one run of mypy --strict over a file whose comments say what it must say."""

import re
import subprocess
import sys
from pathlib import Path

from tests import ROOT

# A line `# E: code` is an error, `# R: type` what `reveal_type` says; every other line is fine.
APPLICATION = """
from typing import Any

from delayed import AsyncQueue, GoTask, PyTask, Queue, current_task, delayed
from delayed.backoff import Exponential
from delayed.queue.handle import AsyncHandle, Handle

queue = Queue("shop", "redis://localhost")
task = delayed(queue)


@task(retry=3, backoff=Exponential(1, cap=600), timeout=30, retry_on=(ConnectionError, "a.B"), on_failure="a:b")
def resize(path: str, width: int = 3) -> str:
    current_task().progress(1, 2, "half")
    while not current_task().cancelled:
        pass
    reveal_type(current_task().queue)  # R: delayed.queue.queue.Queue
    return path


@task
async def fetch(url: str) -> int:
    return current_task().attempt


@task
def load() -> Any: ...


@task.cron("* * * * *", retry=1, expires=60, on_success=print)
def nightly() -> None: ...


reveal_type(resize("a"))  # R: str
reveal_type(resize.delay("a"))  # R: delayed.queue.handle.Handle[str]
reveal_type(resize.options(after=3, retry=1).options(track=True).delay("a", width=2).result())  # R: str
reveal_type(fetch.delay("u").result(timeout=1))  # R: int
reveal_type(fetch.options(after=3).delay("u"))  # R: delayed.queue.handle.Handle[int]
reveal_type(load.delay().result())  # R: Any
reveal_type(queue.enqueue(PyTask("a:b", (1,), result_ttl=5)))  # R: delayed.queue.handle.Handle[Any]
reveal_type(Handle(queue, "0123456789abcdef").result())  # R: Any
known: Handle[int] = Handle(queue, "0123456789abcdef")
reveal_type(known.result())  # R: int


async def main(other: AsyncQueue) -> None:
    reveal_type(await fetch("u"))  # R: int
    reveal_type(await resize.delay("a").aresult())  # R: str
    handle: AsyncHandle[int] = await other.enqueue(GoTask("main.F", (1,), 3, unique="a", unique_mode="while_queued"))
    reveal_type(await handle.aresult())  # R: int


resize.options(after="3")  # E: arg-type
resize.options(aftr=3)  # E: call-arg
resize.options(retry="3")  # E: arg-type
resize.delay(3)  # E: arg-type
resize.delay("a", after=3)  # E: call-arg
task(rety=3)  # E: call-overload
task(timeout="3")  # E: call-overload
task.cron("* * * * *", result_ttl=3)  # E: call-arg
PyTask("a:b", rety=3)  # E: call-arg
PyTask("a:b", unique_mode="always")  # E: arg-type
GoTask("main.F", track="no")  # E: arg-type
queue.enqueue("a:b")  # E: arg-type
"""


def test_mypy_knows_what_an_application_means(tmp_path: Path) -> None:
    lines = APPLICATION.splitlines()
    (tmp_path / "shop.py").write_text(APPLICATION)
    # Of redis-py, with all that it imports, nothing is asked here.
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n[mypy-redis.*,msgpack.*]\nfollow_imports = skip\n")
    run = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", "shop.py"]
    said = subprocess.run(
        run, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=100, env={"MYPYPATH": str(ROOT)}
    )
    found = {number: match[0] for number, line in enumerate(lines, 1) if (match := re.findall(r"# ([ER]: .+)$", line))}
    errors = re.findall(r"^shop\.py:(\d+): error: .*\[([a-z-]+)\]$", said.stdout, re.MULTILINE)
    types = re.findall(r'^shop\.py:(\d+): note: Revealed type is "(.*)"$', said.stdout, re.MULTILINE)
    got = {int(line): f"E: {code}" for line, code in errors} | {int(line): f"R: {kind}" for line, kind in types}
    assert got == found, said.stdout + said.stderr
