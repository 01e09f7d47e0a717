"""The unit files, as systemd reads them. (What the processes tell systemd is tested with them.)"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from delayed.worker.options import GRACE
from tests import ROOT

UNITS = ROOT / "scripts" / "systemd"
WITHOUT_SYSTEMD = "systemd-analyze is not installed"


@pytest.mark.skipif(not shutil.which("systemd-analyze") and not os.environ.get("CI"), reason=WITHOUT_SYSTEMD)
@pytest.mark.parametrize("unit", ["delayed-worker@.service", "delayed-sweeper.service", "delayed-ui.service"])
def test_systemd_accepts_the_unit(unit: str, tmp_path: Path) -> None:
    program = tmp_path / "delayed"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (UNITS / unit).read_text().replace("/srv/delayed/.venv/bin/delayed", str(program))
    copy = tmp_path / unit.replace("@", "@default")
    copy.write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in checked.stderr.splitlines() if copy.name in line]
    assert checked.returncode == 0, checked.stderr
    assert not complaints


def test_systemd_waits_longer_than_the_grace() -> None:
    text = (UNITS / "delayed-worker@.service").read_text()
    timeout, grace = re.search(r"TimeoutStopSec=(\d+)", text), re.search(r"--grace (\d+)", text)
    assert timeout is not None
    assert grace is not None
    assert float(timeout[1]) > float(grace[1]) == GRACE
    assert "Type=notify" in text
    assert "KillMode=mixed" in text
    assert re.search(r"^ExecStart=.* \$OPTIONS$", text, re.MULTILINE)  # without braces, so that it is several words
