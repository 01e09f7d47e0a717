"""Who is compared, in which configurations, and what each of them guarantees."""

from dataclasses import dataclass, replace

from .kinds import LIMIT, PLAIN

OURS = "ours"
BARE = "bare loop"


@dataclass(frozen=True)
class Contender:
    """One system in one configuration."""

    name: str
    variant: str  # the configuration, "" for the only one
    rate: int  # tasks/s to be expected: it decides how many tasks a run has, so that all runs take about the same time
    fill: tuple[str, ...]  # arguments that enqueue; the number of tasks follows
    work: tuple[str, ...]  # arguments that start the worker
    script: str = ""  # of bench/peers; a program of its own if empty
    home: str = ""  # what runs it: "" for our own environment, else a folder of .cache/bench
    fill_with: "Contender | None" = None  # another contender that enqueues for this one
    python: bool = True  # one of the Python peers or ours
    results: bool = False  # tasks return their number, and that is kept for a minute
    check: tuple[str, ...] = ()  # arguments that note what the results were

    @property
    def label(self) -> str:
        """Name and configuration."""
        return f"{self.name}, {self.variant}" if self.variant else self.name


def _peer(name: str, variant: str, rate: int, work: str, fill: str = "fill") -> Contender:
    arguments = tuple(work.split())
    return Contender(name, variant, rate, tuple(fill.split()), arguments, f"peer_{name}.py", name)


_OURS = Contender(OURS, "Python", 100_000, ("fill",), ("work",), "ours.py")


def _go(concurrency: int) -> Contender:
    work = ("work", str(concurrency))
    return Contender(OURS, f"Go, concurrency {concurrency}", 150_000, ("fillgo",), work, "", "golang", _OURS, python=False)


def _asynq(concurrency: int) -> Contender:
    variant = f"concurrency {concurrency}" if concurrency else "default"
    return Contender("asynq", variant, 15_000, ("fill",), ("work", str(concurrency)), "", "asynq", python=False)


def _bullmq(concurrency: int) -> Contender:
    variant = f"concurrency {concurrency}" if concurrency > 1 else "default"
    return Contender("bullmq", variant, 2_500, ("fill",), ("work", str(concurrency)), "bullmq.mjs", "bullmq", python=False)


CELERY = "work --without-gossip --without-mingle --without-heartbeat"

_CHECKS = {  # those that are compared with results kept, each in the configuration that is quickest then
    "dramatiq, default, 8 threads": "results",
    "huey, 4 threads": "results",
    "rq, SimpleWorker": "results",
    "arq, max_jobs 100": "results 100",
    "celery, solo, prefetch 128": "results",
    "taskiq, stream with acknowledgement, prefetch 100": "results stream",
    "saq, concurrency 100": "results",
    "streaq, default": "results 16",
    "asynq, concurrency 10": "results 10",
}


def keeping_results() -> list[Contender]:
    """The peers, with results as their documentation turns them on."""
    found = [one for one in CONTENDERS if one.label in _CHECKS]
    return [replace(one, results=True, check=tuple(_CHECKS[one.label].split())) for one in found]


def of_kind(kind: str, go: bool) -> Contender:
    """Our own worker and producer for one kind of task."""
    name = PLAIN if go and kind == LIMIT else kind  # a limit is the queue's, of which the program need not know
    work, fill, check = ((name, word) for word in ("work", "fill", "results"))
    if go:
        return Contender(OURS, "Go, concurrency 10", 0, fill, (*work, "10"), "", "golang/kind", python=False, check=check)
    return Contender(OURS, "Python", 0, fill, work, "ours_kinds.py", check=check)


CONTENDERS = (
    Contender(BARE, "", 130_000, ("fill",), (), "bare.py", fill_with=_OURS),
    _OURS,
    *(_go(concurrency) for concurrency in (1, 10, 100)),
    *(_asynq(concurrency) for concurrency in (0, 10, 100)),
    _peer("dramatiq", "default, 8 threads", 2_000, "work 8"),
    _peer("dramatiq", "1 thread", 2_000, "work 1"),
    _peer("huey", "default, 1 thread", 2_500, "work thread 1"),
    _peer("huey", "4 threads", 5_000, "work thread 4"),
    _peer("rq", "default, forks", 100, "work fork"),
    _peer("rq", "SimpleWorker", 600, "work simple"),
    _peer("arq", "default", 1_500, "work 10"),
    _peer("arq", "max_jobs 100", 1_500, "work 100"),
    _peer("celery", "default, prefork 2", 800, "work"),
    _peer("celery", "solo, prefetch 128", 1_000, f"{CELERY} --pool=solo --prefetch-multiplier=128"),
    _peer("celery", "1 thread, prefetch 128", 1_000, f"{CELERY} --pool=threads --concurrency=1 --prefetch-multiplier=128"),
    _peer("taskiq", "default, list", 3_000, "work list", "fill list"),
    _peer("taskiq", "stream with acknowledgement, prefetch 100", 1_500, "work stream --max-prefetch 100", "fill stream"),
    _peer("saq", "default", 1_500, "work 10"),
    _peer("saq", "concurrency 100", 1_500, "work 100"),
    _peer("streaq", "default", 1_500, "work 16"),
    _peer("streaq", "concurrency 100", 1_500, "work 100"),
    _peer("wakaq", "1 process", 4_000, "work"),
    _peer("tasktiger", "default, forks", 60, "work fork", "fill fork"),
    _peer("tasktiger", "sync", 800, "work sync", "fill sync"),
    _peer("tasktiger", "sync, batches of 100", 4_000, "work batch", "fill batch"),
    _peer("upstream", "", 2_000, "work"),
    *(_bullmq(concurrency) for concurrency in (1, 100)),
)

PACKAGES = {
    "rq": ["rq"],
    "celery": ["celery[redis]"],
    "dramatiq": ["dramatiq[redis]"],
    "huey": ["huey", "redis"],
    "arq": ["arq"],
    "taskiq": ["taskiq", "taskiq-redis"],
    "saq": ["saq[redis]", "typing_extensions"],  # it imports what it does not require
    "streaq": ["streaq"],
    "wakaq": ["wakaq"],
    "tasktiger": ["tasktiger"],
    "upstream": ["delayed==1.2.0b2", "redis"],
}

GUARANTEES = {
    "bare loop": "a lease for each task, but nobody keeps it alive; no fence, no limits, no errors: the bound, not a worker",
    "ours": "at least once; a killed worker's task is back within 15 s; lease, fence and allow-list for each task",
    "asynq": "at least once; a lease for each task, a killed worker's task is back after about a minute",
    "dramatiq": "at least once; a killed worker's messages are back after a minute without its heartbeat",
    "huey": "at most once: a killed worker's running task is lost",
    "rq": "at least once; the jobs of a killed worker fail, and are repeated if they have a retry",
    "arq": "at least once; a killed worker's job is back after its time-out (5 minutes)",
    "celery": "at most once by default (acknowledged before it runs)",
    "taskiq": "list: at most once; stream: at least once, a killed worker's task is back after 10 minutes of idling",
    "saq": "at least once; a killed worker's job is swept after its time-out",
    "streaq": "at least once; a killed worker's task is back after idling for a minute",
    "wakaq": "at most once: it keeps no record of a running task",
    "tasktiger": "at least once; a killed worker's task is back after a minute without its heartbeat",
    "upstream": "at least once; a sweeper puts back what a killed worker held",
    "bullmq": "at least once; a killed worker's job is back after 30 s",
}
