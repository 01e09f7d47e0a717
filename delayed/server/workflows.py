"""The workflows of nodes that consumers have ended."""

import asyncio
import contextlib

from ..base.clock import monotonic
from ..base.text import traceback_of
from ..logger import logger
from ..redis.command import RedisError
from ..redis.keys import home_of
from ..task.headers import Member
from ..workflow.carry import Carrier
from .links import Link, Links

_CARRYING = 5.0  # seconds for the workflow of one task


class Workflows:
    """Carries workflows on. (What is not done here, a sweeper does.)

    Args:
        links: the queues.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._told: dict[tuple[str, str, str], None] = {}  # queue, home, id
        self._carrying: asyncio.Task[None] | None = None

    def tell(self, link: Link, member: Member | None) -> None:
        """A node has ended: its workflow is carried on soon."""
        if member is not None:
            self._told[link.name, member.home, member.flow] = None
            if self._carrying is None:
                self._carrying = asyncio.create_task(self._carry())

    async def close(self) -> None:
        """Until those are carried on that were told."""
        if self._carrying is not None:
            await asyncio.wait([self._carrying])

    async def _carry(self) -> None:
        try:
            while self._told:
                queue, home, flow = next(iter(self._told))
                del self._told[queue, home, flow]
                try:
                    with contextlib.suppress(RedisError):
                        await asyncio.to_thread(_carried, self._links[queue], home, flow)
                except Exception as error:  # the others are not kept from it
                    logger.error("A workflow was not carried on; a sweeper does it\n%s", traceback_of(error))
        finally:
            self._carrying = None


def _carried(link: Link, home: str, flow: str) -> None:
    keys = home_of(home)
    if keys is not None and link.store.reaches(home):
        Carrier(link.store.at(keys)).carry(flow, monotonic() + _CARRYING)
