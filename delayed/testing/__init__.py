"""Test tools for applications: a queue without a server. Needs `pip install 'fakeredis[lua]'`.

```python
from delayed.testing import assert_enqueued, drain, faked, inline, travel
from myapp.tasks import queue, resize  # resize is a task of queue, with result_ttl=60


def test_resize():
    with faked(queue):
        handle = resize.delay("a.png", size=200)
        assert_enqueued(queue, resize, ["a.png"], {"size": 200})
        drain(queue)  # runs what waits
        assert handle.result() == "a.png at 200"

        resize.options(after=3600).delay("b.png", size=1)
        assert drain(queue) == 0
        travel(queue, 3600)
        assert drain(queue) == 1

        with inline(queue):  # whatever is enqueued here runs at once
            assert resize.delay("c.png", size=2).result() == "c.png at 2"
```

All of it takes an `AsyncQueue`, too. A faked queue keeps no limits, and nothing works on it by itself.
"""

from .assertions import Enqueued, assert_enqueued, enqueued
from .drain import drain
from .fake import fake_async_queue, fake_queue, faked
from .inline import inline
from .travel import travel

__all__ = ["Enqueued", "assert_enqueued", "drain", "enqueued", "fake_async_queue", "fake_queue", "faked", "inline", "travel"]
