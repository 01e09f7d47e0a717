"""Facts about processes: memory, exit statuses in words, output."""

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path


def describe_status(status: int) -> str:
    """An exit status as a shell has it (128 + the number of the signal that killed), in words."""
    return f"killed by {signal.Signals(status - 128).name}" if status > 128 else f"exit status {status}"


def out_of_memory_kills(known: int = 0) -> int:
    """How many processes of our control group the kernel has killed because the group's memory was used up; as many as were
    `known` where the system does not say. (Linux, cgroup v2: the field `oom_kill` of `memory.events`.)"""
    try:
        group = Path("/proc/self/cgroup").read_text().partition("0::/")[2].strip()
        events = Path("/sys/fs/cgroup", group, "memory.events").read_text().split()
        return int(dict(zip(events[::2], events[1::2], strict=True)).get("oom_kill", "0"))
    except (OSError, ValueError):
        return known


def cause_of_death(wait_status: int, working: bool, out_of_memory: bool) -> str:
    """Describe how a worker process ended.

    Args:
        wait_status: as `os.waitpid` has it.
        working: whether it was running a task.
        out_of_memory: whether the kernel killed for lack of memory meanwhile.
    """
    code = os.waitstatus_to_exitcode(wait_status)
    if code >= 0:
        return f"exit status {code}{' in the middle of a task' if working else ''}"
    name = signal.Signals(-code).name
    if out_of_memory and -code == signal.SIGKILL:
        return f"killed by {name}: out of memory, says the kernel"
    return f"killed by {name}"


def flush_output() -> None:
    """Write out what was printed. A full disk, or an output that is closed, must keep no process from its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # Python's way of saying that the descriptor was closed when it started
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


_STATM = Path("/proc/self/statm")


def resident_size() -> int:
    """The bytes of memory that this process has now; 0 where the system does not say (Linux does: proc(5), `statm`), or
    cannot, as a task has used up all files."""
    try:
        return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
