"""Says what the storm did: for the terminal, and for docs/reliability.md."""

import platform
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from delayed import __version__

from .curves import curves
from .events import CUT, FLAP, FULL, MUTE, SLOW, STEP, STOP
from .judge import Repeat, Verdict, percentile
from .member import ROOT
from .options import TROUBLES, Options
from .storm import Outcome

DOCUMENT, PICTURE = ROOT / "docs" / "reliability.md", ROOT / "docs" / "recovery.svg"
BEGIN, END = "<!-- what follows is written by scripts/chaos --write -->\n", "<!-- what precedes is written -->\n"
_SHOWN = 5  # histories of repeats


def failures(outcome: Outcome, verdict: Verdict) -> list[str]:
    """What must not be."""
    wrong = [*outcome.faults]
    if verdict.lost:
        wrong.append(f"LOST: {len(verdict.lost)} tasks, such as {verdict.lost[:_SHOWN]}")
    if verdict.unexplained:
        wrong.append(f"UNEXPLAINED: {len(verdict.unexplained)} repeats, such as")
        wrong += [line for repeat in verdict.unexplained[:_SHOWN] for line in _history(repeat)]
    if verdict.unknown:
        wrong.append(f"UNKNOWN: {verdict.unknown} tasks that nobody had enqueued")
    if verdict.turned_away:
        wrong.append(f"REFUSED: ends of {len(verdict.turned_away)} tasks in time, such as {verdict.turned_away[:_SHOWN]}")
    if verdict.twice:
        wrong.append(f"NUMBERED TWICE: {len(verdict.twice)} numbers, such as {verdict.twice[:_SHOWN]}")
    wrong += [*verdict.asked.failures(), *verdict.told.failures()]
    if outcome.keys:
        wrong.append(f"LEFT OVER in Redis: {', '.join(outcome.keys)}")
    if outcome.processes:
        wrong.append(f"LEFT OVER: processes {outcome.processes}")
    if outcome.dead_letters:
        wrong.append(f"BURIED: {len(outcome.dead_letters)} tasks, such as")
        wrong += [f"  {letter}" for letter in outcome.dead_letters[:_SHOWN]]
    return wrong


def _history(repeat: Repeat) -> list[str]:
    return [
        f"  task {repeat.task}: {'Go' if each.go else 'Python'} process {each.writer.pid} (of {each.writer.parent}), "
        f"{each.begin} to {each.end}"
        for each in repeat.history
    ]


def _numbers(outcome: Outcome, verdict: Verdict) -> list[tuple[str, str]]:
    repeats = len(verdict.repeats)
    causes = Counter((repeat.cause or "unexplained").split()[0] for repeat in verdict.repeats)
    kills, kill_repeats = outcome.kills, causes["kill"]
    late = sum(repeat.ended and repeat.cause.startswith("kill") for repeat in verdict.repeats)
    return [
        ("tasks enqueued for certain", f"{verdict.enqueued:,}"),
        ("tasks executed", f"{verdict.executed:,}"),
        ("**lost**", f"**{len(verdict.lost)}**"),
        ("kills", f"{kills:,}"),
        ("stops, cuts", f"{_blows(verdict, STOP):,}, {_blows(verdict, CUT):,}"),
        ("outputs that nobody read for a while, or until the end of their process", f"{_blows(verdict, MUTE):,}"),
        (
            "times that all sweepers' links were slow; broke again and again",
            f"{_blows(verdict, SLOW):,}; {_blows(verdict, FLAP):,}",
        ),
        (
            "steps of the clock of Redis; times that its memory was full",
            f"{_blows(verdict, STEP):,}; {_blows(verdict, FULL):,}",
        ),
        ("**repeated**", f"**{repeats:,}**"),
        ("… because of a kill", f"{kill_repeats:,} ({kill_repeats / max(kills, 1):.2f} for each kill)"),
        ("… of them after the task had ended", f"{late:,}"),
        ("ends that supervisors said for killed processes", f"{outcome.said:,}"),
        ("… because of a stop", f"{causes['stop']:,}"),
        ("… because of a cut", f"{causes['cut']:,}"),
        ("… because a consumer of a server was late with the end", f"{causes['late']:,}"),
        ("… because the clock was set forward, by which a consumer's lease runs", f"{causes['clock']:,}"),
        ("… because of a step of the clock that a sweeper which had just begun did not see", f"{causes['step']:,}"),
        ("… **unexplained**", f"**{causes['unexplained']}**"),
        ("executions that overlapped another of the same task (stops and cuts)", f"{verdict.overlaps:,}"),
        ("ends that servers confirmed; refused though the lease lived", f"{verdict.confirmed:,}; {len(verdict.turned_away)}"),
        ("numbers that servers gave to tasks; twice", f"{len(verdict.numbered):,}; {len(verdict.twice)}"),
        ("occurrences of schedules that were executed", f"{outcome.occurrences:,}"),
        *verdict.asked.numbers(),
        *verdict.told.numbers(),
        ("keys left over in Redis", f"{len(outcome.keys)}"),
        ("other dead letters", f"{len(outcome.dead_letters)}"),
        ("processes left over, or ended without cause", f"{len(outcome.processes) + len(outcome.faults)}"),
        ("time", f"{outcome.seconds:.0f} s"),
    ]


def _blows(verdict: Verdict, what: str) -> int:
    return sum(count for name, count in verdict.blows.items() if name.split()[0] == what)


def _recovery(verdict: Verdict) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("killed", "tasks in execution", "p50", "p99", "max")]
    for kind, values in sorted(verdict.recoveries.items(), key=lambda item: percentile(item[1], 0.5)):
        seconds = (f"{value:.3f} s" for value in (percentile(values, 0.5), percentile(values, 0.99), max(values)))
        rows.append((kind, f"{len(values):,}", *seconds))
    return rows


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    ruler = "| --- " + "| ---: " * (len(rows[0]) - 1) + "|"
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], ruler, *lines[1:]]


def lines(options: Options, outcome: Outcome, verdict: Verdict) -> list[str]:
    """For the terminal."""
    blows = ", ".join(f"{count:,} {name}" for name, count in verdict.blows.most_common())
    missing = sorted(TROUBLES.keys() - options.troubles)
    plain = [(name.replace("*", ""), value.replace("*", "")) for name, value in _numbers(outcome, verdict)]
    return [
        f"leases of {options.ttl:g} s, beats every {options.beat:g} s, sweeps every {options.sweep:g} s; seed {options.seed}",
        *([f"without {', '.join(missing)}"] if missing else []),
        f"Blows: {blows}",
        *_table(plain),
        "",
        "From a kill to the next begin of the task that was in execution:",
        *_table(_recovery(verdict)),
    ]


def write(options: Options, outcome: Outcome, verdict: Verdict) -> None:
    """Bring the document and its picture up to date."""
    PICTURE.write_text(curves(verdict.recoveries))
    blows = ", ".join(f"{count:,} {name}" for name, count in verdict.blows.most_common())
    generated = [
        f"{datetime.now(UTC):%Y-%m-%d}, delayedq {__version__}, Python {platform.python_version()}"
        f"{', Go too' if outcome.go else ', without Go'}, seed {options.seed}. Leases of {options.ttl:g} s, beats every "
        f"{options.beat:g} s, sweeps every {options.sweep:g} s.",
        "",
        *_markdown([("", "found"), *_numbers(outcome, verdict)]),
        "",
        f"The blows: {blows}.",
        "",
        "From a kill to the next begin of the task that was in execution:",
        "",
        *_markdown(_recovery(verdict)),
        "",
        "![Recovery times](recovery.svg)",
        "",
    ]
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(before + BEGIN + "\n" + "\n".join(generated) + "\n" + END + after)
