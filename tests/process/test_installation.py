"""Another distribution, `delayed` 1.x, has the same import name, and files with the same names."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import delayed

PACKAGE = Path(delayed.__file__).parent
WAYS = [
    "delayed.queue",
    "delayed.task",
    "delayed.worker",
    "delayed.sweeper",
    "delayed.delay",
    "delayed.testing",
    "delayed.cli.enqueue",
]
SHARED = ("__init__.py", "delay.py", "logger.py")  # files of both
THEIRS = ("constants.py", "keep_alive.py", "queue.py", "sweeper.py", "task.py", "worker.py")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package as a wheel installs it."""
    copy = Path(shutil.copytree(PACKAGE, tmp_path / "delayed", ignore=shutil.ignore_patterns("__pycache__", "lua")))
    shutil.copytree(PACKAGE.parent / "lua", copy / "lua")
    return copy


def imported(package: Path, module: str) -> subprocess.CompletedProcess[str]:
    elsewhere = (
        f"[each for each in sys.path[1:] if each != {str(PACKAGE.parent)!r}]"  # a folder without __init__.py comes last
    )
    code = f"import sys; sys.path[:] = [{str(package.parent)!r}, *{elsewhere}]; import {module}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def install_theirs(package: Path) -> None:
    for name in THEIRS:
        (package / name).touch()


@pytest.mark.parametrize("module", WAYS)
def test_over_ours_it_is_said_by_each_import(installed: Path, module: str) -> None:
    install_theirs(installed)
    (installed / "__init__.py").write_text("__version__ = '1.2.0b2'\n")
    (installed / "logger.py").write_text("import logging\n\nlogger = logging.getLogger(__name__)\n")
    (installed / "delay.py").write_text("from .queue import Queue\nfrom .task import PyTask\n")
    ended = imported(installed, module)
    assert ended.returncode == 1
    assert "ImportError: files of `delayedq` are missing, or replaced by those of `delayed` 1.x" in ended.stderr


@pytest.mark.parametrize("module", ["delayed.queue", "delayed.worker"])
def test_what_its_removal_leaves_is_not_whole(installed: Path, module: str) -> None:
    for name in SHARED:
        (installed / name).unlink()
    ended = imported(installed, module)
    assert ended.returncode == 1
    assert "pip install --force-reinstall" in ended.stderr


def test_under_ours_it_is_a_warning(installed: Path) -> None:
    install_theirs(installed)
    ended = imported(installed, "delayed")
    assert ended.returncode == 0
    assert "RuntimeWarning: `delayed` 1.x is installed in the place of `delayedq`" in ended.stderr


def test_alone_nothing_is_said(installed: Path) -> None:
    ended = imported(installed, "delayed")
    assert (ended.returncode, ended.stderr) == (0, "")
