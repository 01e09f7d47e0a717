"""A small storm over workflows: kills of workers, sweepers and creators, and no join may be lost, early or twice."""

import subprocess
import sys

import pytest

from chaos.member import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_no_join_is_lost_early_or_twice() -> None:
    command = [
        sys.executable,
        "-m",
        "chaos.joins",
        "--graphs=20",
        "--nodes=60",
        "--groups",
        "1500",
        "--kills=30",
        "--deadline=90",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "All is well."
