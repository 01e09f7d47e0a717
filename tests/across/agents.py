"""The programs of the matrix: each is a producer, a worker and a sweeper."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

from tests import ROOT
from tests.support.upstream import CACHE, alone, upstream_python

HERE = Path(__file__).parent
PREBUILT = "DELAYED_UPSTREAM_GO"  # an agent with go-delayed that is there already, for where the module proxy does not have it
FUNCTIONS = {
    "python": {"echo": "conformance:echo", "hold": "conformance:hold", "fail": "conformance:fail"},
    "go": {"echo": "main.Echo", "hold": "main.Hold", "fail": "main.Fail"},
}
Order = dict[str, Any]
Ask = Callable[..., dict[str, Any]]


class NotBuilt(RuntimeError):
    """A Go program cannot be built here."""


@dataclass(frozen=True)
class Agent:
    """A program, and how it wants to be stopped."""

    name: str
    command: tuple[str, ...]
    language: str
    ours: bool
    environment: dict[str, str] = field(default_factory=dict)
    to_produce: tuple[str, ...] = ("produce",)  # what makes a producer of it

    @property
    def stop_signal(self) -> Signals:
        return Signals.SIGTERM if self.ours else Signals.SIGHUP

    def start(self, url: str, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self.command, *arguments], env=self.variables(url), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def produce(self, url: str, orders: Iterable[Order]) -> dict[int, str]:
        """Enqueue. The numbers of the orders that it refused, with its reasons."""
        lines = "".join(json.dumps(order) + "\n" for order in orders)
        done = subprocess.run(
            [*self.command, *self.to_produce],
            env=self.variables(url),
            input=lines,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.name} does not produce: {done.stderr[-2000:]}")
        refused = (line.split(" ", 1) for line in done.stdout.splitlines() if line.split(" ", 1)[0].isdigit())
        return {int(number): reason for number, reason in refused}

    def variables(self, url: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NOTIFY_SOCKET")}
        return {**inherited, "DELAYED_REDIS_URL": url, **self.environment}


def order(queue: str, language: str, function: str, *args: Any, **more: Any) -> Order:
    """An order in the notation of docs/protocol.md, section 9."""
    path = FUNCTIONS[language][function]
    return {"queue": queue, "language": language, "func_path": path, "args": list(args), **more}


def go_binary(name: str, module: Path, *arguments: str) -> str:
    """A command built from a Go module in this repository; Go itself knows whether anything has changed.

    Raises:
        NotBuilt: it cannot be built here.
    """
    target = CACHE / name
    with alone(name):
        made = subprocess.run(
            ["go", "build", "-o", target, *arguments], cwd=module, capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise NotBuilt(f"{name} cannot be built: {made.stderr.strip()}")
    return str(target)


def have_go() -> bool:
    """Whether Go is installed. In CI it has to be."""
    found = shutil.which("go") is not None
    if not found and os.environ.get("CI"):
        raise RuntimeError("Go is not installed, and CI tests the Go side too")
    return found


def go_program(url: str, *arguments: str) -> Ask:
    """Gives a Go program, on the Redis at `url`, one request after another, and returns its replies."""
    command = [go_binary("conformance", ROOT / "interop", "./cmd/conformance"), *arguments]

    def asked(**request: Any) -> dict[str, Any]:
        done = subprocess.run(
            command,
            input=json.dumps(request),
            env={"DELAYED_REDIS_URL": url},
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply

    return asked


def ours_python() -> Agent:
    agent = (sys.executable, str(HERE / "agent.py"))
    return Agent("ours Python", agent, "python", True, {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"})


def ours_go() -> Agent:
    return Agent("ours Go", (go_binary("conformance", ROOT / "interop", "./cmd/conformance"),), "go", True)


def theirs_python() -> Agent:
    return Agent("upstream Python", (upstream_python(), str(HERE / "agent.py")), "python", False, {"PYTHONUNBUFFERED": "1"})


def theirs_go() -> Agent:
    binary = os.environ.get(PREBUILT) or go_binary("upstream-go", HERE / "upstream", "-mod=mod", ".")
    return Agent("upstream Go", (binary,), "go", False)
