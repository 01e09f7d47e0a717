"""Test tools for applications: queues without a server. Needs `pip install 'delayedq[testing]'`.

```python
from delayed.testing import assert_enqueued, drain, faked, inline, travel
from myapp.tasks import queue, resize  # resize is a task of queue, with result_ttl=60


def test_resize():
    with faked(queue):
        handle = resize.delay("a.png", size=200)
        assert_enqueued(resize, "a.png", 200)
        drain(queue)  # runs what waits
        assert handle.result() == "a.png at 200"

        resize.options(after=3600).delay("b.png", size=1)
        assert drain(queue) == 0
        travel(queue, 3600)
        assert drain(queue) == 1

        with inline(queue):  # whatever is enqueued here runs at once
            assert resize.delay("c.png", size=2).result() == "c.png at 2"
```

All of it takes an `App`, with all its queues, and an `AsyncQueue`, too. A faked queue keeps no limits, and nothing works on it
by itself. In pytest the fixture `delayed_app` does this for each test.
"""

from .assertions import assert_enqueued
from .drain import drain
from .enqueued import Enqueued, enqueued
from .fake import fake_async_queue, fake_queue
from .faked import faked, on_server
from .inline import inline
from .travel import travel

__all__ = [
    "Enqueued",
    "assert_enqueued",
    "drain",
    "enqueued",
    "fake_async_queue",
    "fake_queue",
    "faked",
    "inline",
    "on_server",
    "travel",
]
