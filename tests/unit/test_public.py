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
        "Flow",
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
        "Run",
        "State",
        "Sweeper",
        "TaskCancelled",
        "TaskExpired",
        "TaskFailed",
        "TaskTooLarge",
        "TimedOut",
        "UnknownTask",
        "Worker",
        "chain",
        "current_task",
        "delayed",
        "group",
        "linked",
        "new_id",
        "on",
        "quorum",
        "results",
    }
    assert all(hasattr(delayed, name) for name in delayed.__all__)


@pytest.mark.parametrize("path", UPSTREAM)
def test_upstream_s_import_paths_stay(path: str) -> None:
    module, name = path.split(":")
    assert hasattr(import_module(f"delayed.{module}"), name)


WITHOUT_TRACES = "sys.modules['opentelemetry'] = None"  # now its import fails; redis-py tries that by itself


def test_nothing_but_traces_needs_opentelemetry() -> None:
    code = f"""import sys; {WITHOUT_TRACES}
import importlib, pkgutil, delayed
for each in pkgutil.walk_packages(delayed.__path__, "delayed.", lambda name: None):
    if each.name != "delayed.__main__" and not each.name.startswith("delayed.otel"):
        importlib.import_module(each.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_who_lacks_opentelemetry_is_told_what_to_install() -> None:
    code = f"import sys; {WITHOUT_TRACES}; import delayed.otel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'delayedq[otel]'" in done.stderr


def test_a_client_imports_no_worker() -> None:
    """And what takes long to import only when it is used; see `delayed.base.later`."""
    others = (
        "redis",
        "asyncio",
        "ssl",
        "email",
        "importlib.metadata",
        "subprocess",
        "psutil",
        "click",
        "cronsim",
        "zoneinfo",
        "delayed.worker.worker",
        "delayed.sweeper.sweeper",
        "delayed.cron.schedules",
        "delayed.redis.connect",
        "delayed.queue.async_queue",
        "delayed.queue.waiter",
    )
    code = f"import sys; {WITHOUT_TRACES}; from delayed import Queue, PyTask; print([m for m in {others} if m in sys.modules])"
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
