"""Carries on the workflows of the nodes that a worker has ended."""

import math

from ..base.clock import monotonic
from ..redis.channel import Channel
from ..redis.keys import home_of
from ..task.headers import Member
from ..workflow.carry import Carrier
from .leases import LeasePool

_CARRYING = 0.25  # seconds for workflows between two tasks, at most
_LONGEST = 0.02  # seconds for which a busy worker asks nobody what is left to do for them


class Joins:
    """What one worker does for workflows. The loop calls it; `carry_over` is the heartbeat's.

    What is not done here, as this process is killed or Redis is away, a sweeper does.

    Args:
        channel: the worker's connection.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._told: dict[tuple[LeasePool, str, str], None] = {}  # workflows of which nodes have ended: where, home, id
        self._carriers: dict[tuple[str, str], Carrier] = {}  # by queue and by home
        self._expected: tuple[LeasePool, str, str] | None = None  # the workflow of which a node has begun last
        self._since = 0.0  # monotonic time since which nobody was asked whether something is left; 0 if there is nothing

    @property
    def waiting(self) -> bool:
        """Whether there are workflows to carry on."""
        return bool(self._told)

    def expect(self, pool: LeasePool, member: Member) -> None:
        """A node is about to begin: what its workflow is carried on with is asked for together with that."""
        workflow = (pool, member.home, member.flow)
        if workflow != self._expected:
            self._expected = workflow
            carrier = self._carrier(pool, member.home)
            if carrier is not None and not carrier.knows(member.flow):
                self._channel.beside(*carrier.question(member.flow))

    def tell(self, pool: LeasePool, member: Member | None) -> None:
        """A node has ended, or is about to be: its workflow is carried on soon."""
        if member is not None:
            self._told[pool, member.home, member.flow] = None

    def carry(self, busy: bool) -> bool:
        """Carry on these workflows. A `busy` worker, which has other tasks or looks for them at once, sends the joins behind
        its endings and asks nobody, most of the time: what needs more steps than that is done when it asks, before it waits
        at the latest. Returns whether nobody was asked."""
        moment = monotonic()
        if busy and (not self._since or moment - self._since < _LONGEST) and self._mentioned():
            self._since = self._since or moment
            return True
        self._since = 0.0
        told, self._told = self._told, {}
        for pool, home, flow in told:
            if (carrier := self._carrier(pool, home)) is not None:
                carrier.carry(flow, moment + _CARRYING)
        return False

    def finish(self) -> None:
        """Carry on what is left: there may be nothing else to do."""
        if self._told:
            self.carry(busy=False)

    @property
    def due(self) -> float:
        """Monotonic time at which somebody is to be asked what is left."""
        return self._since + _LONGEST if self._told else math.inf

    def carry_over(self, channel: Channel) -> None:
        """As `carry`, from the heartbeat's thread while a task runs, over its connection."""
        until = monotonic() + _CARRYING
        for pool, home, flow in list(self._told):
            keys = home_of(home)
            if keys is not None and pool.store.reaches(home):
                Carrier(pool.store.over(channel).at(keys)).carry(flow, until)

    def _mentioned(self) -> bool:
        commands = []
        for pool, home, flow in self._told:
            carrier = self._carrier(pool, home)
            if carrier is not None:
                if not carrier.knows(flow):
                    return False
                commands.append(carrier.join(flow))
        return self._channel.mention(b"".join(commands))

    def _carrier(self, pool: LeasePool, home: str) -> Carrier | None:
        """Who carries on the workflows of this home; None if it is on another node of a cluster."""
        name = (pool.store.name, home)
        if name not in self._carriers:
            keys = home_of(home)
            if keys is None or not pool.store.reaches(home):
                return None
            self._carriers[name] = Carrier(pool.store.at(keys))
        return self._carriers[name]
