"""The proof that each task ran exactly once: a file with one byte for each, to which the task adds one."""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Self


class Marks:
    """A mapped file of one byte per task, that the processes of a contender map too."""

    def __init__(self, count: int) -> None:
        descriptor, name = tempfile.mkstemp(prefix="bench-")
        os.ftruncate(descriptor, count)
        self.path = Path(name)
        self._map = mmap.mmap(descriptor, count)
        os.close(descriptor)
        self.count = count

    def done(self) -> int:
        """How many tasks have run at least once."""
        return self.count - self._map[:].count(0)

    def verdict(self) -> str:
        """Nothing if each ran exactly once; else what is wrong."""
        counts = self._map[:]
        missing, once = counts.count(0), counts.count(1)
        if once == self.count:
            return ""
        return f"{missing} of {self.count} tasks did not run, {self.count - missing - once} ran more than once"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()
        self.path.unlink()
