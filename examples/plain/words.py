"""The tasks: a module that both the script and the worker import."""

import os
from pathlib import Path

from delayed import Queue, delayed

queue = Queue("words", os.environ.get("DELAYED_REDIS_URL", "redis://localhost:6379/0"))
task = delayed(queue)


@task(retry=3, result_ttl=3600)
def count_words(path: str) -> int:
    """Counts the words of a file. It only reads, so it may run twice."""
    return len(Path(path).read_text(errors="replace").split())
