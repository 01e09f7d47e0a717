"""The published Python package, in an environment of its own."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests import ROOT

CACHE = ROOT / ".cache"  # what is made once and kept
UPSTREAM = "delayed==1.2.0b2"  # the newest that the package index has


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One process at a time makes what is called `name`: those of pytest-xdist share it."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def upstream_python() -> str:
    """The interpreter of the environment; it is made if it is not there."""
    folder = CACHE / "upstream"
    python = folder / "bin" / "python"
    done = folder / UPSTREAM
    with alone("upstream"):
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--pre", UPSTREAM], check=True)
            done.touch()
    return str(python)
