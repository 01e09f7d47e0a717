"""Checks queues while processes work on them: a possible race is checked again before it is reported."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..base.clock import monotonic
from ..errors import DelayedError
from ..logger import logger
from ..queue.queue import Queue
from ..redis.command import ResponseError
from .checks import Finding, Invariant, Snapshot, When
from .invariants import INVARIANTS

PATIENCE = 6.0  # seconds: a sweep comes within five
_FIRST_FEW = 5  # findings of one kind that are shown; the others are counted
_FIRST_PAUSE = 0.1  # seconds to the second look; each pause is twice the one before
_REPAIRABLE = frozenset(each.name for each in INVARIANTS if each.mend is not None)
LOOKED_AT = sum(each.when is not When.AT_REST for each in INVARIANTS)
STEPS = 2 * LOOKED_AT + len(_REPAIRABLE)  # of a repair, where there is something to repair
_NOTED = frozenset(each.name for each in INVARIANTS if not each.grave)
_SOON = frozenset(each.name for each in INVARIANTS if each.when is When.SOON)


class Left(DelayedError):
    """Nobody waits for the end any more."""


class Checked(NamedTuple):
    """The findings of `check` in a queue."""

    queue: str
    repaired: list[Finding]
    left: list[Finding]

    @property
    def repairable(self) -> int:
        """How many of those that are left can be repaired."""
        return sum(finding.invariant in _REPAIRABLE for finding in self.wrong)

    @property
    def wrong(self) -> list[Finding]:
        """What is left and is no mere note."""
        return [finding for finding in self.left if finding.invariant not in _NOTED]


def look(queue: Queue, which: Iterable[Invariant], step: Callable[[], None] = lambda: None) -> dict[tuple[str, str], Finding]:
    """The findings at this moment; some may be races. `step` is called after each invariant."""
    snapshot, found = Snapshot(queue), dict[tuple[str, str], Finding]()
    for each in which:
        found |= {(finding.invariant, finding.subject): finding for finding in each.look(snapshot)}
        step()
    return found


def examine(
    queue: Queue, patience: float = PATIENCE, *, at_rest: bool = False, step: Callable[[int], None] = lambda _: None
) -> list[Finding]:
    """The findings that several looks in a row confirm. Where nothing seems wrong, one look is enough.

    Args:
        queue: the queue; processes may work on it.
        patience: seconds for which what may be broken for a moment has to stay broken; longer than sweeps are apart.
        at_rest: no process works: then more must hold.
        step: is called with 1 after each of the `LOOKED_AT` invariants, and with 0 whenever one is looked at again.
    """
    which = [each for each in INVARIANTS if at_rest or each.when is not When.AT_REST]
    found = look(queue, which, lambda: step(1))
    deadline, pause, looks = monotonic() + patience, _FIRST_PAUSE, 1
    while found and (looks == 1 or any(name in _SOON for name, _ in found)):
        left = deadline - monotonic()
        if left <= 0 and looks > 1:
            break
        time.sleep(max(0.0, min(pause, left)))  # nothing tells when another process will have done what is due
        pause, looks = 2 * pause, looks + 1
        names = {name for name, _ in found}
        again = look(queue, [each for each in which if each.name in names], lambda: step(0))
        found = {fault: again[fault] for fault in found if fault in again}
    return list(found.values())


def mend(queue: Queue, found: Iterable[Finding], step: Callable[[int], None] = lambda _: None) -> None:
    """Repair what can be repaired while processes work: each repair is a command or a script that checks again, and none
    removes a task. `step` is called with 1 before each kind of repair."""
    for each in INVARIANTS:
        if each.mend is not None:
            step(1)
        subjects = [finding.subject for finding in found if finding.invariant == each.name]
        if subjects and each.mend is not None:
            try:
                each.mend(queue, subjects)
            except ResponseError as error:  # what it was to repair is still there at the next look
                logger.error("%s: the repair of %r failed: %s", queue.name, each.name, error)


def check(
    queue: Queue,
    patience: float = PATIENCE,
    *,
    repair: bool = False,
    at_rest: bool = False,
    step: Callable[[int], None] = lambda _: None,
) -> Checked:
    """Examine a queue, and repair it if asked.

    Args:
        queue: the queue.
        patience: as for `examine`.
        repair: mend what can be mended, and look again.
        at_rest: as for `examine`.
        step: as for `examine` and `mend`. If it raises `Left`, this ends between two of them, with what was done until then.
    """
    found: list[Finding] = []
    try:
        found = examine(queue, patience, at_rest=at_rest, step=step)
        if not repair or not found:
            return Checked(queue.name, [], found)
        mend(queue, found, step)
        left = examine(queue, patience, at_rest=at_rest, step=step)
    except Left:
        names = {finding.invariant for finding in found}
        left = list(look(queue, [each for each in INVARIANTS if each.name in names]).values())
    faults = {finding[:2] for finding in left}
    return Checked(queue.name, [finding for finding in found if finding[:2] not in faults], left)


def lines(checked: Checked) -> Iterator[str]:
    """What was found, in lines of text."""
    repaired, wrong = checked.repaired, checked.wrong
    if repaired or wrong:
        hint = f" ({checked.repairable} of them can be repaired: --repair)" if checked.repairable and not repaired else ""
        yield f"{checked.queue}: {len(repaired)} repaired, {len(wrong)} wrong{hint}"
    else:
        yield f"{checked.queue}: all is well"
    notes = [finding for finding in checked.left if finding not in wrong]
    for word, findings in (("repaired", repaired), ("wrong", wrong), ("note", notes)):
        shown = Counter[str]()
        for finding in findings:
            shown[finding.invariant] += 1
            if shown[finding.invariant] <= _FIRST_FEW:
                yield f"  {word:8}  {finding.invariant:13}  {finding.subject}: {finding.says}"
        for invariant, count in shown.items():
            if count > _FIRST_FEW:
                yield f"  {word:8}  {invariant:13}  … and {count - _FIRST_FEW} more (--json has all)"
