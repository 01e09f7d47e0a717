"""Installs the contenders, each where it disturbs no other: under .cache/bench."""

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from .contenders import PACKAGES, Contender
from .placement import CACHE, PEERS, ROOT

_COMPANIONS = ["redis[hiredis]"]  # a fair chance for all: the fast parser, where the peer's requirements allow it


class NotInstallable(Exception):
    """A contender cannot be had here; the message says why."""


def _run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstallable(str(error)) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstallable(said[-1] if said else f"{command[0]} failed")
    return done.stdout


def _python_peer(home: str) -> None:
    folder = CACHE / home
    stamp = folder / "installed"
    wanted = " ".join(PACKAGES[home])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    venv.create(folder, with_pip=True, clear=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*map(str, pip), *PACKAGES[home], *([] if home == "streaq" else _COMPANIONS)])  # streaq has a client of its own
    stamp.write_text(wanted)


def _node_peer() -> None:
    folder = CACHE / "bullmq"
    if not (folder / "node_modules" / "ioredis").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        _run(["npm", "install", "--silent", "bullmq", "ioredis"], folder)


def _program(home: str) -> Path:
    """What has been built in a folder of bench/."""
    return CACHE / f"{home.replace('/', '-')}-bench"


def install(contender: Contender) -> None:
    """Make sure that `contender` can run.

    Raises:
        NotInstallable: it cannot be had.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    home = contender.home
    if home in PACKAGES:
        _python_peer(home)
    elif home == "bullmq":
        _node_peer()
    elif home:
        if not shutil.which("go"):
            raise NotInstallable("Go is not installed")
        _run(["go", "build", "-o", _program(home), "."], ROOT / "bench" / home)


def command(contender: Contender, arguments: Sequence[str]) -> list[str]:
    """How to start `contender`."""
    home = contender.home
    if home == "bullmq":
        return ["node", str(PEERS / contender.script), *arguments]
    if not contender.script:
        return [str(_program(home)), *arguments]
    python = str(CACHE / home / "bin" / "python") if home else sys.executable
    return [python, str(PEERS / contender.script), *arguments]


def directory(contender: Contender) -> Path:
    """Where to start it."""
    return CACHE / "bullmq" if contender.home == "bullmq" else PEERS


def variables(contender: Contender) -> dict[str, str]:
    """What it needs in its environment: only ours may see this repository, which would hide upstream's `delayed`."""
    found = {} if contender.home else {"PYTHONPATH": f"{ROOT}:{PEERS}"}
    return {**found, "BENCH_RESULTS": "1"} if contender.results else found


def version(contender: Contender) -> str:
    """What is installed."""
    home = contender.home
    if home in PACKAGES:
        code = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
        names = [name.split("[")[0].split("==")[0] for name in PACKAGES[home]]
        return _run([CACHE / home / "bin" / "python", "-c", code, *names]).strip()
    if home == "bullmq":
        about = json.loads((CACHE / "bullmq" / "node_modules" / "bullmq" / "package.json").read_text())
        return f"bullmq {about['version']}, Node {_run(['node', '--version']).strip()}"
    if home:
        module = "github.com/hibiken/asynq" if home == "asynq" else "github.com/redis/go-redis/v9"
        return _run(["go", "list", "-m", module], ROOT / "bench" / home).strip()
    return f"Python {sys.version.split()[0]}"
