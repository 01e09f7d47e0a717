"""`delayed flow`: lists and shows workflows, cancels them, lets them go on, gives them signals, and removes them."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import click

from ..base.checks import as_time
from ..base.escape import listed
from ..base.ids import ID_FORM, is_id
from ..base.text import clipped
from ..errors import InvalidAct, InvalidTask
from ..ops.actions import cancel_flow, delete_flow, retry_flow, signal_flow
from ..ops.flow_text import lines, mermaid, summary
from ..ops.flows import FlowView, all_single_states, found_run, list_runs, single_states, view, with_errors
from ..queue.queue import Queue
from ..workflow.again import RetryMode
from ..workflow.layout import MARKS
from ..workflow.run import Run, runs
from .acting import operator, tell
from .amounts import Count
from .application import app_option
from .common import Group, as_json_text, connected, hint, json_option, show
from .places import places

_LOOKED_AT = 10_000  # workflows of a queue
_SHOWN = 200  # sets of nodes, or nodes
_STATES = ("building", "running", "failing", "cancelling", "succeeded", "failed", "cancelled")
_NODE_STATES = sorted({*MARKS.values()})


@click.group(cls=Group)
def flow() -> None:
    """List, show, cancel, retry or remove workflows, and give them signals.

    A workflow is named by its id, or by that of one of its nodes. It is looked for in the queues of --queue, else in those of
    --app, else in all queues that workers or sweepers have served.
    """


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where workflows are looked for."""
    return click.option("--queue", "queues", metavar="QUEUE", multiple=True, help="Look into this queue. May be repeated.")(
        app_option(command)
    )


def _checked(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    for each in [value] if isinstance(value, str) else value:
        if not is_id(each):
            raise click.BadParameter(f"{each!r} is no id of a workflow or a node: {ID_FORM}")
    return value


_id = click.argument("flow_id", metavar="ID", callback=_checked)
_ids = click.argument("ids", metavar="ID...", nargs=-1, required=True, callback=_checked)


def _run(url: str, queues: Sequence[str], app_path: str | None, flow_id: str) -> Run:
    """The workflow with this id."""
    some = places(url, queues, app_path)
    found = found_run(some, flow_id)
    if found is None:
        names = listed([each.name for each in some])
        raise click.ClickException(
            f"no workflow {flow_id} is known in {names}: its home is another queue (say --queue), or what was kept has run out"
        )
    return found


@flow.command("list")
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@_where
@click.option("--count", "--limit", "count", type=Count(), default=50, show_default=True, help="How many.")
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@click.option("--ended/--no-ended", default=True, show_default=True, help="Also those that have ended, and are still kept.")
@json_option
@connected
def flow_list(
    url: str, names: tuple[str, ...], queues: tuple[str, ...], app_path: str | None, count: int, state: str | None,
    ended: bool, as_json: bool,
) -> None:  # fmt: skip
    """List the workflows whose home is one of QUEUES: of each first those that go on, then those that have ended last.

    QUEUE is the same as --queue QUEUE.
    """
    some = places(url, tuple(dict.fromkeys(names + queues)), app_path)
    cut = list[str]()
    every = (run for queue in some for run in _looked_at(queue, ended, cut))
    found = list(islice(list_runs(every, state), count + 1))
    shown = found[:count]
    if as_json:
        rows = [{"id": run.id, "queue": run.queue.name, **it._asdict(), "succeeded": it.succeeded} for run, it in shown]
        click.echo(json.dumps(rows, indent=2))
    else:
        show(
            f"{run.id}  {as_time(status.created)}  {run.queue.name}  {clipped(status.name, 40) or '(no name)'}: "
            + summary(status)
            for run, status in shown
        )
    if len(found) > count:
        _hint_at_more(count)
    elif cut:
        hint(
            f"looked at the first {_LOOKED_AT:,} workflows of {listed(cut)}, and there are more"
            + ("" if ended else " that go on")
        )


def _hint_at_more(count: int) -> None:
    hint(f"the first {count:,} are shown: --count shows more")


def _looked_at(queue: Queue, ended: bool, cut: list[str]) -> Iterator[Run]:
    """Its workflows, so far as they are looked at; the name of a queue that has more goes to `cut`."""
    for number, run in enumerate(runs(queue, ended=ended)):
        if number == _LOOKED_AT:
            cut.append(queue.name)
            return
        yield run


@flow.command("show")
@_id
@_where
@click.option(
    "--count",
    "--limit",
    "count",
    type=Count(),
    show_default=f"{_SHOWN}; all with --json",
    help="How many sets of nodes, or nodes.",
)
@click.option("--nodes", is_flag=True, help="Each node in a line, instead of a line for each group.")
@click.option("--state", type=click.Choice(_NODE_STATES), help="With --nodes: only those in this state.")
@click.option("--mermaid", "as_mermaid", is_flag=True, help="Print a flowchart for Mermaid.")
@json_option
@connected
def flow_show(
    url: str, flow_id: str, queues: tuple[str, ...], app_path: str | None, count: int | None, nodes: bool, state: str | None,
    as_mermaid: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show workflow ID, or the one of which ID is a node, as a tree: a group is one line."""
    if state is not None and not nodes:
        raise click.UsageError("--state is for --nodes")
    if as_mermaid and (as_json or nodes):
        raise click.UsageError("say --mermaid alone")
    run = _run(url, queues, app_path, flow_id)
    if nodes and as_json:
        _tell_nodes(run, state, count)
    elif nodes:
        _show_nodes(run, state, count or _SHOWN)
    elif as_json:
        click.echo(as_json_text(_as_dict(run, view(run), count)))
    elif as_mermaid:
        show(mermaid(view(run), count or _SHOWN))
    else:
        found = view(run)
        show(lines(found, single_states(run, found.sets[: count or _SHOWN]), count or _SHOWN))


def _show_nodes(run: Run, state: str | None, count: int) -> None:
    found = run.nodes(state)
    for each, error in with_errors(run, islice(found, count)):
        said = f"  {clipped(error, 200)}" if error else ""
        show([f"{each.id}  {each.state:9}  {clipped(each.label, 60)}{said}"])
    if next(found, None) is not None:
        _hint_at_more(count)


def _tell_nodes(run: Run, state: str | None, count: int | None) -> None:
    """They may be a million: they are printed as they are read."""
    before = "["
    for each, error in with_errors(run, islice(run.nodes(state), count)):
        click.echo(before + as_json_text({**each._asdict(), "error": error}), nl=False)
        before = ",\n "
    click.echo("]" if before != "[" else "[]")


def _as_dict(run: Run, found: FlowView, count: int | None) -> dict[str, Any]:
    shown = found.sets[:count]
    states = all_single_states(run, shown)
    sets = [
        {**each._asdict(), "edges": [edge._asdict() for edge in each.edges], "says": states.get(each.number)} for each in shown
    ]
    status = {**found.status._asdict(), "succeeded": found.status.succeeded}
    more = len(found.sets) - len(shown)
    return {"id": found.id, "queue": found.queue, "on_failure": found.policy, **status, "sets": sets, "more": more}


@flow.command("cancel")
@_ids
@_where
@connected
def flow_cancel(url: str, ids: tuple[str, ...], queues: tuple[str, ...], app_path: str | None) -> None:
    """Cancel workflows: what waits will not begin, and what runs is told."""
    for run in _all(url, ids, queues, app_path):
        tell(cancel_flow(run, operator()))


@flow.command("retry")
@_ids
@_where
@click.option(
    "--mode",
    type=click.Choice(["failed_only", "failed_and_downstream", "all"]),
    default="failed_only",
    show_default=True,
    help="Run what has failed or was cancelled; also what came after it and has run nevertheless; or everything.",
)
@connected
def flow_retry(url: str, ids: tuple[str, ...], queues: tuple[str, ...], app_path: str | None, mode: RetryMode) -> None:
    """Let workflows that have ended go on: what has failed runs again, and what was skipped after it."""
    for run in _all(url, ids, queues, app_path):
        try:
            done = retry_flow(run, operator(), mode)
        except InvalidTask as error:  # which is written for programs
            raise InvalidAct(str(error).replace("mode='all'", "--mode all")) from error
        tell(done)


@flow.command("signal")
@_id
@click.argument("name")
@click.argument("payload", required=False)
@_where
@connected
def flow_signal(url: str, flow_id: str, name: str, payload: str | None, queues: tuple[str, ...], app_path: str | None) -> None:
    """Give workflow ID the signal NAME: what waits for it goes on. PAYLOAD, in JSON, is what the wait returns.

    A signal may come before the wait begins. The first one with a name counts.
    """
    run = _run(url, queues, app_path, flow_id)
    try:
        value = None if payload is None else json.loads(payload)
    except ValueError:
        raise click.UsageError(f"{payload!r} is no JSON; a string is written '\"so\"'") from None
    tell(signal_flow(run, operator(), name, value))


@flow.command("delete")
@_ids
@_where
@connected
def flow_delete(url: str, ids: tuple[str, ...], queues: tuple[str, ...], app_path: str | None) -> None:
    """Remove workflows that have ended, with their results, before the time is over for which they are kept.

    Their unique keys are free at once. One that goes on is refused: cancel it first.
    """
    for run in _all(url, ids, queues, app_path):
        tell(delete_flow(run, operator()))


def _all(url: str, ids: Sequence[str], queues: Sequence[str], app_path: str | None) -> Iterator[Run]:
    """All of them are found before the first one is changed."""
    yield from [_run(url, queues, app_path, each) for each in ids]
