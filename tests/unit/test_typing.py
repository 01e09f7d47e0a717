"""What type checkers make of applications: mypy and pyright, both strict, over files whose comments say what they must say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    reveal_type(current_task().queue)  # R: Queue
    return path


@task
async def fetch(url: str) -> int:
    return current_task().attempt


@task
def load() -> Any: ...


@task.cron("* * * * *", retry=1, expires=60, on_success=print)
def nightly() -> None: ...


reveal_type(resize("a"))  # R: str
reveal_type(resize.delay("a"))  # R: Handle[str]
reveal_type(resize.options(after=3, retry=1).options(track=True).delay("a", width=2).result())  # R: str
reveal_type(fetch.delay("u").result(timeout=1))  # R: int
reveal_type(fetch.options(after=3).delay("u"))  # R: Handle[int]
reveal_type(load.delay().result())  # R: Any
reveal_type(queue.enqueue(PyTask("a:b", (1,), result_ttl=5)))  # R: Handle[Any]
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

# The same of an `App`.
APP = """
from datetime import timedelta

from delayed import App, AsyncHandle, Handle
from delayed.middleware import Job, Outcome, Step

app = App("redis://localhost", priorities=["mail"])


@app.task
def welcome(user: int, total: str = "0") -> str:
    return total


@app.task(queue="mail", retry=5, result_ttl=timedelta(hours=1))
async def fetch(url: str) -> int:
    return 1


@app.cron("* * * * *", retry=3)
def nightly() -> None: ...


@app.on_start
def begin() -> None: ...


@app.middleware
def timed(job: Job, call_next: Step) -> Outcome:
    return call_next(job)


deliver = app.declare("main.Deliver", queue="go", retry=5)
reveal_type(welcome(1))  # R: str
reveal_type(welcome.delay(1))  # R: Handle[str]
reveal_type(welcome.delay(1).result())  # R: str
reveal_type(fetch.delay("u"))  # R: Handle[int]
reveal_type(fetch.delay("u").result())  # R: int
reveal_type(welcome.options(priority="high", after=timedelta(1)).delay(1))  # R: Handle[str]
reveal_type(fetch.options(after=3).delay("u"))  # R: Handle[int]
reveal_type(welcome.handle("x"))  # R: Handle[str]
reveal_type(fetch.ahandle("x"))  # R: AsyncHandle[int]
reveal_type(fetch.options(queue="mail").handle("x").result())  # R: int
reveal_type(app.enqueue_many([welcome.call(1), fetch.call("u"), deliver.call(1)]))  # R: list[Handle[Any]]
reveal_type(app.enqueue_many(welcome.call(number) for number in range(3)))  # R: list[Handle[Any]]
reveal_type(deliver.delay(1, 2))  # R: Handle[Any]
reveal_type(nightly.delay())  # R: Handle[None]
reveal_type(app.cancel("x"))  # R: State


async def main() -> None:
    handle = await welcome.adelay(1)
    reveal_type(await fetch("u"))  # R: int
    reveal_type(handle)  # R: AsyncHandle[str]
    reveal_type(await handle.aresult())  # R: str
    reveal_type(await (await fetch.adelay("u")).aresult())  # R: int
    reveal_type(await fetch.options(after=3).adelay("u"))  # R: AsyncHandle[int]
    reveal_type(await app.aenqueue_many([welcome.call(1)]))  # R: list[AsyncHandle[Any]]
    reveal_type(await app.acancel("x"))  # R: State
    await welcome.adelay("x")  # E: arg-type
    await fetch.adelay(3)  # E: call-overload


welcome.delay("x")  # E: arg-type
fetch.delay(3)  # E: call-overload
fetch.delay()  # E: call-overload
welcome.call("x")  # E: arg-type
app.enqueue_many([1])  # E: list-item
app.enqueue_many([welcome.delay(1)])  # E: list-item
welcome.options(retry="3")  # E: arg-type
welcome.options(priority="urgent")  # E: arg-type
welcome.options(aftr=3)  # E: call-arg
welcome.options(queue=3)  # E: arg-type
app.task(retry="3")  # E: call-overload
app.task(queue=3)  # E: call-overload
app.task(timeout="3")  # E: call-overload
App(wire="theirs")  # E: arg-type
App(priorities=3)  # E: arg-type
app.declare("main.F")  # E: call-arg
app.declare("main.F", queue="go", retry="3")  # E: arg-type
wrong: Handle[int] = welcome.delay(1)  # E: assignment
other: AsyncHandle[str] = fetch.ahandle("x")  # E: assignment
app.cancel(3)  # E: arg-type
app.on_start(3)  # E: arg-type
"""


def expected(text: str) -> dict[int, str]:
    """The marks by the numbers of their lines."""
    return {
        number: match[0] for number, line in enumerate(text.splitlines(), 1) if (match := re.findall(r"# ([ER]: .+)$", line))
    }


def bare(kind: str) -> str:
    """The name of a type without its modules."""
    return re.sub(r"\b[a-z_.]+\.(?=[A-Z])", "", kind)


@pytest.mark.slow
@pytest.mark.parametrize("text", [APPLICATION, APP], ids=["queue", "app"])
def test_mypy_knows_what_an_application_means(tmp_path: Path, text: str) -> None:
    (tmp_path / "shop.py").write_text(text)
    # Of redis-py, with all that it imports, nothing is asked here.
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n[mypy-redis.*,msgpack.*]\nfollow_imports = skip\n")
    run = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", "shop.py"]
    said = subprocess.run(
        run, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=800, env={"MYPYPATH": str(ROOT)}
    )
    errors = re.findall(r"^shop\.py:(\d+): error: .*\[([a-z-]+)\]$", said.stdout, re.MULTILINE)
    types = re.findall(r'^shop\.py:(\d+): note: Revealed type is "(.*)"$', said.stdout, re.MULTILINE)
    got = {int(line): f"E: {code}" for line, code in errors} | {int(line): f"R: {bare(kind)}" for line, kind in types}
    assert got == expected(text), said.stdout + said.stderr


@pytest.mark.slow  # its first run fetches what it is made of
@pytest.mark.parametrize("text", [APPLICATION, APP], ids=["queue", "app"])
def test_pyright_knows_it_too(tmp_path: Path, text: str) -> None:
    """It has other names for errors: here it counts on which lines they are."""
    (tmp_path / "shop.py").write_text(text)
    settings = {"typeCheckingMode": "strict", "include": ["shop.py"], "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    run = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    said = subprocess.run(run, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=environment)
    got: dict[int, str] = {}
    for each in json.loads(said.stdout)["generalDiagnostics"]:
        line, kind = each["range"]["start"]["line"] + 1, re.search(r' is "(.*)"$', each["message"])
        if each["severity"] == "error":
            got[line] = "E"
        elif kind is not None:
            got.setdefault(line, f"R: {kind[1]}")
    marks = {line: "E" if mark.startswith("E") else mark for line, mark in expected(text).items()}
    assert got == marks, said.stdout
