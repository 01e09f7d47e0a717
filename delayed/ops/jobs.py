"""Bulk acts as jobs: begun by an operator, and worked on, a page at a time, by whoever has the job's lease.

A page of dead letters is done once, whoever is killed when: a letter has an id, and is moved or removed in one step, so what a
killed runner has done is gone, and the next one counts it. What a job does to waiting tasks can be done again, too: it begins
at the first of them, and those that are done are not there any more.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict

from ..base.clock import monotonic, now
from ..base.ids import token
from ..base.place import place
from ..dead_letters.letter import DeadLetter, dead_letters, letter_of
from ..dead_letters.retry import retry_some
from ..dead_letters.search import Search
from ..errors import DelayedError, InvalidAct
from ..logger import logger
from ..queue.queue import Queue
from ..queue.waiting import Waiting, Wanted, cancel, move
from ..redis.command import RedisError, ResponseError
from ..task.hidden import hiding
from .audit import Actor, write
from .fsck import STEPS
from .job_records import Job, close, create, job_of, open_ids, stop
from .overview import look, server_time
from .purge import bounded
from .repair import Repair
from .task_actions import checked_moment
from .walks import walk

LETTERS = ("dead.retry", "dead.delete")
REPAIR = "fsck.repair"
WAITING = ("task.cancel", "task.delete", "task.run", "task.move", "queue.purge")
LEASE = 15.0  # seconds that a runner which says nothing has its job
_PAGE = 500  # dead letters in a page,
_READ = 100  # of which so many are read at a time, as they may be large,
_BUDGET = 1 << 22  # until a page has so many bytes
_TOLD = 0.5  # seconds for which a runner looks without saying how far it is
_TOGETHER = 50  # tasks in one step
_BEAT = 1.0  # seconds between two beats of who repairs


class Superseded(DelayedError):
    """Another runner has the job, or it has ended."""


class Stopped(DelayedError):
    """An operator wants the job to stop."""


class Enough(DelayedError):
    """This runner has to do something else: it gives the job back."""


def begin(queue: Queue, by: Actor, act: str, wanted: Search | Wanted | None = None, moment: float | None = None) -> Job:
    """Begin a job: it is worked on by any process that has a `Runner` for this queue.

    Args:
        queue: the queue.
        by: who begins it.
        act: one of `LETTERS` or `WAITING`, or `REPAIR`.
        wanted: which letters (`Search`) or tasks (`Wanted`); None for all.
        moment: when tasks are moved to, in seconds since 1970.

    Raises:
        InvalidAct: there is no such act, or the filter is not one for it.
    """
    if act not in (*LETTERS, *WAITING, REPAIR):
        raise InvalidAct(f"{act!r:.100} is no act of a job: {', '.join((*LETTERS, *WAITING, REPAIR))}")
    if act == REPAIR:
        if wanted is not None or moment is not None:
            raise InvalidAct(f"{REPAIR} takes no filter: it is for all keys of the queue")
        return create(queue, by, act, {}, total=STEPS, newest="", moment=None)
    of_letters = act in LETTERS
    chosen = wanted if wanted is not None else Search() if of_letters else Wanted()
    if isinstance(chosen, Search) != of_letters:
        raise InvalidAct(f"{act} is for {'dead letters: give a Search' if of_letters else 'waiting tasks: give a Wanted'}")
    if (moment is not None) != (act == "task.move"):
        raise InvalidAct("a time is for task.move, which needs one")
    if moment is not None:
        checked_moment(queue, moment)
    if act == "queue.purge" and chosen != Wanted():
        raise InvalidAct("queue.purge takes no filter: task.delete does")
    fields = asdict(chosen)
    if act in ("task.run", "task.move"):
        fields["where"] = "scheduled"
    newest = next(dead_letters(queue, 1), None) if of_letters else None
    total = int(queue.store.call("XLEN", queue.keys.dead)) if of_letters else _waiting_in(queue, fields["where"])
    return create(queue, by, act, fields, total=total, newest="" if newest is None else newest.id, moment=moment)


def _waiting_in(queue: Queue, where: str | None) -> int:
    view = look(queue)
    places = {"queue": view.waiting, "group": view.grouped, "key": view.for_keys, "scheduled": view.scheduled}
    return view.pending if where is None else places.get(where, 0)


def stop_job(queue: Queue, by: Actor, identity: str) -> Job:
    """Stop a job after the page at hand, or at once if nobody works on it. Returns it as it is then.

    Raises:
        InvalidAct: there is no such job, or it has ended.
    """
    stop(queue, by, identity)
    _work_on(queue, identity, place(), lambda: False)
    return job_of(queue, identity)


def _work_on(queue: Queue, identity: str, name: str, enough: Callable[[], bool]) -> bool:
    """Work on a job if nobody does."""
    owner = token()
    if not queue.store.call("SET", queue.keys.job_lease(identity), owner, "NX", "PX", round(LEASE * 1000)):
        return False
    _Work(queue, identity, owner, name, enough).run()
    return True


class Runner:
    """Works on jobs.

    Args:
        queues: says in which queues jobs are looked for.
        enough: is asked between two pages; True to give back the job at hand, which another runner, or this one later, goes
            on with.
    """

    def __init__(self, queues: Callable[[], Iterable[Queue]], enough: Callable[[], bool] = lambda: False) -> None:
        self._queues, self._enough = queues, enough
        self.name = place()

    def step(self) -> bool:
        """Work on one job, if there is one on which nobody works. Returns whether there was.

        Raises:
            RedisError: Redis cannot be reached; somebody goes on with the job later.
        """
        found = ((queue, identity) for queue in self._queues() for identity in open_ids(queue))
        return any(_work_on(queue, identity, self.name, self._enough) for queue, identity in found)


class _Work:
    """One runner's work on one job."""

    def __init__(self, queue: Queue, identity: str, owner: str, name: str, enough: Callable[[], bool]) -> None:
        self._queue, self._id, self._owner, self._name, self._enough = queue, identity, owner, name, enough
        self._told = 0.0  # monotonic time

    def run(self) -> None:
        try:
            job = job_of(self._queue, self._id)
        except InvalidAct:
            job = None
        if job is None or job.state != "open":
            close(self._queue, self._id)
            self._release()
            return
        job.runner, job.started = self._name, job.started or now()
        try:
            self._account(job)
            with hiding(every=job.blind):
                self._work(job)
            self._end(job, "done")
        except Stopped:
            self._end(job, "stopped")
        except Superseded:
            logger.warning("%s: job %s is worked on by another process now", self._queue.name, self._id)
        except Enough:
            self._release()
        except RedisError as error:
            if not isinstance(error, ResponseError):
                raise
            self._fail(job, error)
        except Exception as error:  # a filter meets what any program may have written
            logger.exception("%s: job %s has failed", self._queue.name, self._id)
            self._fail(job, error)

    def _work(self, job: Job) -> None:
        if job.act == REPAIR:
            self._repair(job)
        elif job.act in LETTERS:
            self._letters(job)
        elif job.act in WAITING:
            self._waiting(job)
        else:
            raise InvalidAct(f"this version has no act {job.act!r:.100}")

    def _fail(self, job: Job, error: Exception) -> None:
        job.says = f"{type(error).__name__}: {error}"[:500]
        self._end(job, "failed")

    def _release(self) -> None:
        """Let another runner have it at once."""
        lease = self._queue.keys.job_lease(self._id)
        if self._queue.store.call("GET", lease) == self._owner.encode():
            self._queue.store.call("DEL", lease)

    def _account(self, job: Job) -> None:
        """Count what a killed runner has done of its page."""
        if job.doing:
            found = self._queue.store.batch(*(("XRANGE", self._queue.keys.dead, each, each) for each in job.doing))
            job.done += sum(not each for each in found)
        job.unsure += job.trying
        job.doing, job.trying = [], 0
        if job.act not in LETTERS:
            job.looked = 0  # it begins again
        self._tell(job)

    def _tell(self, job: Job) -> None:
        """Say how far it is, and that somebody works on it."""
        answer = self._queue.store.job_step(self._id, self._owner, job.pack(), LEASE)
        self._told = monotonic()
        if answer != 1:
            raise Stopped if answer == 2 else Superseded
        if self._enough():
            raise Enough

    def _end(self, job: Job, state: str) -> None:
        job.state, job.ended, job.doing, job.trying = state, now(), [], 0
        result = ", ".join(
            [state]
            + [f"{job.left:,} were left"] * (job.left > 0)
            + [f"of {job.unsure:,} it is not known, as a process was killed"] * (job.unsure > 0)
            + [job.says] * (job.says != "")
        )
        write(self._queue, job.by, job.act, job.what, count=job.done, result=result)
        self._queue.store.job_step(self._id, self._owner, job.pack(), 0)

    def _repair(self, job: Job) -> None:
        """Look at all keys in another thread, as that may take longer than the lease lasts, which is kept meanwhile."""
        repair = Repair(self._queue)
        try:
            while not repair.ended.wait(_BEAT):
                job.looked = repair.looked
                self._tell(job)
        finally:
            repair.leave()
            if repair.ended.wait(LEASE):  # who was stopped says what he has done, too
                checked = repair.result()
                job.looked, job.done, job.left = repair.looked, len(checked.repaired), len(checked.wrong)
        job.total = repair.looked

    def _letters(self, job: Job) -> None:
        wanted = Search(**job.wanted)
        while job.newest:
            page, last = self._page(job, wanted)
            if not page:
                return
            chosen = [letter for letter in page if wanted.fits(letter)]
            job.doing = [letter.id for letter in chosen]
            if chosen or monotonic() - self._told >= _TOLD:
                self._tell(job)
            self._act_on_letters(job, chosen)
            job.looked += len(page)
            job.cursor = page[-1].id
            if last:
                return

    def _page(self, job: Job, wanted: Search) -> tuple[list[DeadLetter], bool]:
        """The next letters, and whether they are the last ones."""
        first = "-" if wanted.since is None else str(max(0, int(wanted.since * 1000)))
        page, size = list[DeadLetter](), 0
        at = f"({job.cursor}" if job.cursor else first
        while len(page) < _PAGE and size < _BUDGET:
            some = self._queue.store.call("XRANGE", self._queue.keys.dead, at, job.newest, "COUNT", _READ)
            page += [letter_of(*entry) for entry in some]
            size += sum(len(part) for _, fields in some for part in fields)
            if len(some) < _READ:
                return page, True
            at = f"({page[-1].id}"
        return page, False

    def _act_on_letters(self, job: Job, letters: list[DeadLetter]) -> None:
        for at in range(0, len(letters), _TOGETHER):
            if monotonic() - self._told > LEASE / 3:  # Redis is slow: the lease must not run out
                job.doing = [each.id for each in letters[at:]]
                self._tell(job)
            some = letters[at : at + _TOGETHER]
            if job.act == "dead.retry":
                done = retry_some(self._queue, some)
            else:
                done = int(self._queue.store.call("XDEL", self._queue.keys.dead, *(each.id for each in some)))
            job.done, job.left = job.done + done, job.left + len(some) - done
        job.doing = []

    def _waiting(self, job: Job) -> None:
        wanted = Wanted(**job.wanted)
        moment = round(server_time(self._queue) if job.moment is None else job.moment, 3)
        pages = walk(self._queue, wanted)
        page = next(pages, None)
        while page is not None:
            asked = server_time(self._queue) if wanted.overdue else 0.0
            chosen = [each for each in page.tasks if wanted.fits(each, asked)]
            job.trying = len(chosen)
            if chosen or monotonic() - self._told >= _TOLD:
                self._tell(job)
            done, gone = self._act_on_tasks(job.act, chosen, moment, page.at_once)
            job.looked, job.done, job.left, job.trying = (
                job.looked + len(page.tasks),
                job.done + done,
                job.left + len(chosen) - done,
                0,
            )
            try:
                page = pages.send(gone)
            except StopIteration:
                return

    def _act_on_tasks(self, act: str, tasks: list[Waiting], moment: float, at_once: int) -> tuple[int, list[Waiting]]:
        """How many it was done to, and which of them do not wait there any more."""
        if act in ("task.delete", "queue.purge"):
            members = [each.member for each in tasks]
            steps = (members[at : at + at_once] for at in range(0, len(members), at_once))
            parts = (part for some in steps for part in bounded(some))
            return sum(
                self._queue.store.remove(tasks[0].key, part) for part in parts
            ), tasks  # what was gone before is gone, too
        if act == "task.cancel":
            done = [each for each in tasks if cancel(self._queue, each)]
            return len(done), [each for each in done if not each.tracked or each.where in ("scheduled", "key")]
        later = [each for each in tasks if each.due is not None and (each.due > moment or act == "task.move")]
        moved = [each for each in later if each.due != moment and move(self._queue, each, moment)]
        return len(moved), moved
