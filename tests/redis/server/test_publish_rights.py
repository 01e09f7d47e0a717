"""What is published over HTTP goes only where its token may enqueue."""

from collections.abc import Sequence

import pytest
import redis

from delayed.errors import InvalidTask
from delayed.interests.table import Interest
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis


async def test_rights_are_those_of_what_is_published(name: str, client: redis.Redis, server: EmbeddedRedis) -> None:
    """An interest that comes after the rights were checked is checked, too."""
    b, c = Queue(f"{name}-b", client), Queue(f"{name}-c", client)
    b.set_interest("*", "m:f")
    seen = list[list[str]]()

    def check(interested: Sequence[Interest]) -> None:
        seen.append([each.queue for each in interested])
        if c.name in seen[-1]:
            raise InvalidTask("not into that one")
        if seen[-1]:
            c.set_interest("*", "m:f")

    async with AsyncQueue(name, server.url) as own:
        await own.interests()
        with pytest.raises(InvalidTask, match="not into that one"):
            await own.publish_checked({"a": 1}, check)
    assert [sorted(each) for each in seen] == [[b.name], [b.name, c.name]]
    assert (b.len(), c.len()) == (0, 0)
    client.delete("delayed:interests")
