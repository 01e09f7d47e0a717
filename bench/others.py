"""What else the machine does meanwhile, without which a number may be worth nothing."""

import os

import psutil

_MUCH = 0.1  # of a core


class Others:
    """Other work, and what a host takes for other machines, from now on."""

    def __init__(self) -> None:
        self._first = _now()

    @property
    def cores(self) -> float:
        """How many cores that has kept busy."""
        used, own, elapsed = (now - first for now, first in zip(_now(), self._first, strict=True))
        return max(0.0, used - own) / elapsed if elapsed else 0.0

    def line(self) -> str:
        """For people."""
        cores = self.cores
        much = " **Counts can be relied on, rates and their ratios cannot.**" if cores > _MUCH else ""
        return f"Other work kept {cores:.2f} cores busy meanwhile (load at the end: {os.getloadavg()[0]:.1f}).{much}"


def _now() -> tuple[float, float, float]:
    """Seconds of CPU that the machine has used, and of these we and the programs that have ended; and seconds of its clock."""
    machine, own = psutil.cpu_times(), os.times()
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    virtual = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)  # is counted as user, too
    return sum(machine) - idle - virtual, own.user + own.system + own.children_user + own.children_system, own.elapsed
