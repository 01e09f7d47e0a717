"""The Python half: it enqueues for the Go worker, and has a task that the Go worker enqueues.

python gallery.py NAME WIDTH HEIGHT
"""

import os
import sys

from delayed import GoTask, Queue, delayed

url = os.environ.get("DELAYED_REDIS_URL", "redis://localhost:6379/0")
scaling = Queue("scaling", url)  # a Go worker serves it: tasks of one language have queues of their own
gallery = Queue("gallery", url)  # a Python worker serves this one
task = delayed(gallery)


@task
def publish(name: str, size: list[int]) -> None:
    """The Go worker enqueues it when a picture is scaled."""
    print(f"published {name} at {size[0]}x{size[1]}", flush=True)


if __name__ == "__main__":
    name, width, height = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    handle = scaling.enqueue(GoTask("main.Scale", (name, width, height), retry=3, result_ttl=60))
    print("scaled to", handle.result(timeout=60))  # what the Go function has returned
