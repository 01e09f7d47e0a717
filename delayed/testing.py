"""For the tests of applications: a queue without a server.

Needs `pip install 'fakeredis[lua]'`.
"""

import hashlib
import itertools

import fakeredis

from .allow import AllowAny
from .functions import Functions
from .keys import token
from .queue import Queue
from .task import decode


def fake_queue(name: str = "default") -> Queue:
    """A queue in this process's memory, that no other queue shares. All Lua scripts really run, by fakeredis.

    What it does not cover: workers and sweepers (they need a server's sockets; use `drain`, or a real Redis), blocking,
    time to live as real time passes, other processes, clusters, and whatever fakeredis does otherwise than Redis.
    """
    server = fakeredis.FakeServer()
    client = fakeredis.FakeRedis(server=server)
    client.eval("return 1", 0)  # now it has a Lua runtime, whose `redis` lacks one function that the scripts need
    server._lua_runtime.globals()[b"redis"][b"sha1hex"] = _sha1hex  # type: ignore[attr-defined]
    return Queue(name, client)


def _sha1hex(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()


def drain(queue: Queue) -> int:
    """Run the waiting Python tasks here and now, in order, as well as those that they enqueue. Works with any queue.

    A task that fails raises its exception here and is gone, without retries, so that a test sees it.

    Returns:
        How many ran.

    Raises:
        Unrunnable: a worker would have buried the task.
    """
    functions = Functions(AllowAny())
    own = token()
    for count in itertools.count():
        lease = queue.keys.lease(own, count)
        tasks, _ = queue.take([lease], own, 60, waiting=True)
        if not tasks:
            return count
        try:
            call = decode(tasks[0])
            functions[call.func_path](*call.args, **call.kwargs)
        finally:
            queue.succeed(lease)
            queue.call("DEL", lease)
    raise AssertionError("unreachable")
