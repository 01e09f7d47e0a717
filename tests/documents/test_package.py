"""The package works wherever it comes from: wheel, sdist, checkout."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from delayed.redis.scripts import SCRIPTS
from tests import ROOT


def build(target: str, folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder], cwd=ROOT, check=True)
    (made,) = folder.iterdir()
    return made


def test_the_wheel_has_the_scripts_and_finds_them(tmp_path: Path) -> None:
    wheel = build("wheel", tmp_path / "dist")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {f"delayed/lua/{name}.lua" for name in SCRIPTS} <= names
    assert {"delayed/py.typed", "pytest_delayed.py"} <= names
    assert not [name for name in names if name.endswith((".go", "go.mod")) or name.startswith(("tests", "interop"))]
    code = "import delayed.redis.scripts; print(delayed.redis.scripts.__file__, len(delayed.redis.scripts.SCRIPTS))"
    path = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
    said = subprocess.check_output([sys.executable, "-c", code], text=True, env=path, cwd=tmp_path).split()
    assert said == [str(tmp_path / "site" / "delayed" / "redis" / "scripts.py"), str(len(SCRIPTS))]


def test_the_sdist_has_what_a_wheel_is_built_from(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "delayed/queue/queue.py", "lua/take.lua", "pytest_delayed.py"} <= names
    assert {"go.mod", "go.sum", "lua/lua.go", "interop/delayed/queue.go"} <= names  # the scripts build the Go programs
