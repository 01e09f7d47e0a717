"""What an application may import, and that a documented list is the code's own."""

import re
import subprocess
import sys
from importlib import import_module

import pytest

import delayed
from delayed.errors import Reason
from delayed.redis.keys import Keys
from delayed.redis.scripts import SCRIPTS
from tests import ROOT

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()

UPSTREAM = ["queue:Queue", "queue:AsyncQueue", "task:PyTask", "task:GoTask", "worker:Worker", "sweeper:Sweeper",
            "delay:delayed", "logger:setup_logger", "logger:logger"]  # fmt: skip


def test_exports_are_these() -> None:
    assert delayed.__all__ == sorted(delayed.__all__)
    assert set(delayed.__all__) == {
        "App",
        "AsyncHandle",
        "AsyncQueue",
        "ConfigurationError",
        "DelayedError",
        "Duplicate",
        "GoTask",
        "Handle",
        "InvalidTask",
        "NoResult",
        "NotDone",
        "NotDurable",
        "NotEncodable",
        "NotInTask",
        "PyTask",
        "Queue",
        "Retry",
        "State",
        "Sweeper",
        "TaskCancelled",
        "TaskExpired",
        "TaskFailed",
        "TaskTooLarge",
        "TimedOut",
        "UnknownTask",
        "Worker",
        "current_task",
        "delayed",
        "new_id",
        "results",
    }
    assert all(hasattr(delayed, name) for name in delayed.__all__)


@pytest.mark.parametrize("path", UPSTREAM)
def test_upstream_s_import_paths_stay(path: str) -> None:
    module, name = path.split(":")
    assert hasattr(import_module(f"delayed.{module}"), name)


def test_a_client_imports_no_worker() -> None:
    others = (
        "psutil",
        "click",
        "cronsim",
        "zoneinfo",
        "delayed.worker.worker",
        "delayed.sweeper.sweeper",
        "delayed.cron.schedules",
    )
    code = f"import delayed, sys; print([m for m in {others} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_protocol_lists_every_reason() -> None:
    table = PROTOCOL.partition("| reason | the task |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [str(reason) for reason in Reason]


def test_the_protocol_lists_every_key() -> None:
    keys = Keys("Q")
    for name in (keys.noti, keys.processing, keys.lost, keys.dead, keys.workers, keys.stats, "Q_lease_<token>"):
        assert f"| `{name}" in PROTOCOL


def test_the_protocol_names_every_script() -> None:
    for name in set(SCRIPTS) - {"enqueue", "dead_retry"}:
        assert f"`{name}`" in PROTOCOL, name
