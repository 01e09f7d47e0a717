"""Measures 1 and 2: drain of no-op tasks by one worker process, directly and through added latency."""

import statistics
from collections.abc import Callable, Sequence

import redis

from delayed.redis.embedded import EmbeddedRedis
from tests.support.proxy import proxy

from .contenders import BARE, CONTENDERS, OURS, Contender
from .drain import Failed, drain
from .installs import NotInstallable, version
from .options import Options, Progress
from .placement import server
from .result import Result, spread

TITLE = "Drain of no-op tasks by one worker process"
QUICK = (
    "bare loop",
    "ours, Python",
    "ours, Go, concurrency 10",
    "asynq, concurrency 10",
    "huey, 4 threads",
    "rq, SimpleWorker",
)
FAR = ("bare loop", "ours, Python", "dramatiq, default, 8 threads", "huey, 4 threads")
FAR_RATES = {"bare loop": 60_000, "ours, Python": 40_000}  # tasks/s to be expected with 1 ms; the others': 400
Rates = dict[str, list[float]]


def chosen(options: Options) -> list[Contender]:
    """The contenders of this run."""
    labels = [one for one in CONTENDERS if any(word in (one.name, one.label) for word in options.only)]
    if labels:
        return labels
    return [one for one in CONTENDERS if not options.quick or one.label in QUICK]


def interleaved(
    contenders: Sequence[Contender], runs: int, once: Callable[[Contender], float], progress: Progress, what: str
) -> tuple[Rates, dict[str, str]]:
    """Run each in turn, several times, so that a slow moment of the machine hits all of them.

    Returns:
        The rates by label, and what went wrong by label.
    """
    rates: Rates = {}
    failures: dict[str, str] = {}
    for number in range(runs):
        for contender in contenders:
            if contender.label in failures:
                continue
            progress(f"{what}, run {number + 1} of {runs}: {contender.label}")
            try:
                rates.setdefault(contender.label, []).append(once(contender))
            except (Failed, NotInstallable) as error:
                failures[contender.label] = str(error)
                rates.pop(contender.label, None)
    return rates, failures


def _table(result: Result, contenders: Sequence[Contender], rates: Rates, failures: dict[str, str]) -> None:
    bound = statistics.median(rates.get(BARE, [0.0]))
    ranked = sorted(contenders, key=lambda one: -statistics.median(rates.get(one.label, [0.0])))
    for one in ranked:
        found = rates.get(one.label)
        if found:
            share = f"{statistics.median(found) / bound:.1%}" if bound else ""
            result.rows.append((one.label, spread(found), share))
        else:
            result.rows.append((one.label, f"failed: {failures.get(one.label, 'not run')[:200]}", ""))
    result.values.update(rates)


def _targets(result: Result, contenders: Sequence[Contender], rates: Rates) -> None:
    middle = {one.label: statistics.median(rates[one.label]) for one in contenders if one.label in rates}
    ours, bound = middle.get("ours, Python"), middle.get(BARE)
    if ours and bound:
        result.want("at least 75 % of the bare loop", 100 * ours / bound, 75, " %", least=True)
    peers = [middle[one.label] for one in contenders if one.python and one.name not in (OURS, BARE) and one.label in middle]
    if ours and peers:
        result.want("at least 15 times the fastest Python peer", ours / max(peers), 15, " times", least=True)
    go = [middle[one.label] for one in contenders if one.name == OURS and not one.python and one.label in middle]
    asynq = [middle[one.label] for one in contenders if one.name == "asynq" and one.label in middle]
    if go and asynq:
        result.want("our Go worker at least 10 times asynq, the best of each", max(go) / max(asynq), 10, " times", least=True)


def measure_drain(options: Options, progress: Progress) -> list[Result]:
    """No-op tasks by one worker process."""
    contenders = chosen(options)
    result = Result("drain", TITLE, ("system", "tasks/s", "of the bare loop"))
    with server() as embedded, embedded.client() as client:

        def once(one: Contender) -> float:
            return drain(one, client, embedded.url, max(200, int(one.rate * options.seconds))).rate

        rates, failures = interleaved(contenders, options.runs, once, progress, "drain")
    _table(result, contenders, rates, failures)
    _targets(result, contenders, rates)
    homes = {one.home: one for one in contenders if one.label in rates}
    result.notes.append("Versions: " + "; ".join(version(one) for one in homes.values()) + ".")
    return [result]


def measure_latency(options: Options, progress: Progress) -> list[Result]:
    """Drain through a proxy."""
    with server() as embedded, embedded.client() as client:
        return [_far(options, progress, embedded, client, milliseconds) for milliseconds in (0, 1)]


def _far(options: Options, progress: Progress, embedded: EmbeddedRedis, client: redis.Redis, milliseconds: int) -> Result:
    contenders = [one for one in CONTENDERS if one.label in FAR]
    title = f"Drain through a proxy that adds {milliseconds} ms to a round trip"
    result = Result(f"latency-{milliseconds}ms", title, ("system", "tasks/s", "of the bare loop"))
    assert embedded.port
    with proxy(embedded.port, milliseconds / 2000) as between:  # on Redis's core, too

        def once(one: Contender) -> float:
            rate = FAR_RATES.get(one.label, 400) if milliseconds else min(one.rate, 60_000)
            return drain(one, client, embedded.url, max(200, int(rate * options.seconds)), between.url).rate

        rates, failures = interleaved(contenders, options.runs, once, progress, f"{milliseconds} ms")
    _table(result, contenders, rates, failures)
    return result
