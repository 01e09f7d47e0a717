"""scripts/soak runs, and looks at every process. Whether anything grows takes it half an hour to say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.member import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_it_samples_every_process(tmp_path: Path) -> None:
    picture = tmp_path / "soak.svg"
    command = [sys.executable, "-m", "chaos.soak", "--minutes=0.12", "--step=0.2", "--write", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    verdict = done.stdout.rpartition(" tasks ended\n")[2].splitlines()
    growing = [
        line for line in verdict if re.search(r": .+ grow by [\d.]+ per hour$", line)
    ]  # in so short a time it may seem so
    assert verdict == (growing or ["Nothing grows."]), done.stdout + done.stderr
    assert done.returncode == bool(growing)
    rows = set(re.findall(r"^(RSS, MB|descriptors|threads) +(?:[\d.]+ )?([A-Za-z ]+?)  +\d", done.stdout, re.MULTILINE))
    kinds = {"supervisor", "child", "sweeper", "producer", "Redis"}
    assert {(what, kind) for what in ("RSS, MB", "descriptors", "threads") for kind in kinds} <= rows, done.stdout
    assert re.search(r"^keys +Redis ", done.stdout, re.MULTILINE)
    assert int(re.findall(r"^([\d,]+) tasks ended", done.stdout, re.MULTILINE)[0].replace(",", "")) > 0
    assert picture.read_text().count("<polyline") >= len(rows)
