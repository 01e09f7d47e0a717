"""`delayed flow`, and what `delayed task show` says of a node."""

import json
from collections.abc import Callable

import pytest
import redis

from delayed import GoTask, PyTask, chain, group, quorum
from delayed.ops.audit import AuditFilter, read
from delayed.ops.flows import view
from delayed.queue.queue import Queue
from delayed.workflow import Flow, Run
from tests.conftest import burst
from tests.redis.test_costs import monitored
from tests.support.command import run

Shown = Callable[..., str]


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


def call(path: str = "noop", *args: object) -> PyTask:
    return PyTask(f"tasks:{path}", args)


@pytest.fixture
def graph(queue: Queue) -> Run:
    """One of everything, of which nothing has run yet."""
    flow = Flow(queue, "import", then_complete=[call()])
    first = flow.add(call())
    beside = flow.add(group(call("two", number) for number in range(3)), after=first)
    fails = flow.add(call("fail", "no such page"), after=first, name="page", on_error=[call()])
    approved = flow.wait("approved", after=first, timeout=3600)
    flow.add(chain(call(), call()), after=[beside, approved])
    flow.add(call(), after=fails)
    flow.add(call(), after=[first, beside], when=quorum(2))
    return flow.submit()


def test_a_workflow_is_shown_as_a_tree(graph: Run, queue: Queue) -> None:
    before = run("flow", "show", graph.id, "--queue", queue.name).output.splitlines()
    assert before[0] == f"{graph.id}  import: running, 0 of 11 nodes ended"
    assert before[1].startswith(f"home: {queue.name}, created 20")
    burst(queue)
    first, _, *tree = run("flow", "show", graph.id).output.splitlines()  # the worker has said which queue it serves
    assert first == f"{graph.id}  import: running, 8 of 11 nodes ended, 1 failed, 1 skipped"
    ids = [each.id for each in graph.nodes()]
    assert tree == [
        f"├─ [0] tasks:noop             {ids[0]}  succeeded",
        f"│  ├─ [1] tasks:two (3)       {'':16}  3 succeeded",
        f"│  ├─ [2] page                {ids[4]}  failed: builtins.ValueError: no such page",
        f"│  │  ├─ [3] tasks:noop       {ids[5]}  succeeded  (if it fails: 2)",
        f"│  │  └─ [7] tasks:noop       {ids[9]}  skipped",
        f"│  ├─ [4] wait for approved   {ids[6]}  waits",
        f"│  ├─ [5] tasks:noop          {ids[7]}  waiting  (after 1, 4)",
        f"│  │  [6] tasks:noop          {ids[8]}  waiting",
        f"│  └─ [8] tasks:noop          {ids[10]}  succeeded  (after 2 of 4 of 0, 1)",
        f"└─ [9] tasks:noop (callback)  {ids[11]}  waiting  (after the end)",
    ]
    assert run("flow", "show", ids[4]).output.splitlines()[2:] == tree  # by the id of a node, too
    few = run("flow", "show", graph.id, "--count", "2").output.splitlines()
    assert few[-1] == "… and 8 more sets of nodes: --count"


@pytest.mark.slow
def test_a_large_group_is_one_line_and_few_commands(queue: Queue, client: redis.Redis) -> None:
    with Flow(queue, "large") as flow:
        flow.add(call(), after=flow.add(group(call("noop", number) for number in range(5000))))
    graph = flow.submit()
    with monitored(client, queue.name) as commands:
        shown = run("flow", "show", graph.id, "--queue", queue.name).output
    assert "[0] tasks:noop (5000)  " in shown
    assert "5000 released\n" in shown
    assert len([each for each in commands if each in ("HMGET", "HGET", "GETRANGE", "EXISTS", "HSCAN")]) <= 10, commands
    *listed, _ = run("flow", "show", graph.id, "--queue", queue.name, "--nodes", "--count", "3").output.splitlines()
    assert [line.split() for line in listed] == [[each.id, "released", "tasks:noop"] for each in list(graph.nodes())[:3]]
    graph.cancel()
    burst(queue)


def test_nodes_can_be_listed_by_their_state(graph: Run, queue: Queue) -> None:
    burst(queue)
    words = ("flow", "show", graph.id, "--nodes", "--state", "failed")
    (line,) = run(*words).output.splitlines()
    assert line.split(maxsplit=3)[1:] == ["failed", "page", "builtins.ValueError: no such page"]
    (found,) = json.loads(run(*words, "--json").output)
    assert (found["label"], found["error"]) == ("page", "builtins.ValueError: no such page")
    assert "--state is for --nodes" in run("flow", "show", graph.id, "--state", "failed", status=2).output


def test_a_workflow_is_told_to_programs(graph: Run, queue: Queue) -> None:
    burst(queue)
    found = json.loads(run("flow", "show", graph.id, "--json").output)
    assert (found["id"], found["name"], found["state"], found["succeeded"]) == (graph.id, "import", "running", 6)
    assert found["sets"][1]["counts"] == {"succeeded": 3}
    assert found["sets"][5]["edges"] == [{"mode": "all", "need": 0, "sets": [1, 4], "decided": ""}]
    assert (found["sets"][2]["says"], found["sets"][4]["says"]) == ("failed: builtins.ValueError: no such page", "waits")
    assert found["sets"][0]["says"] is None
    assert (found["more"], len(found["sets"])) == (0, 10)
    few = json.loads(run("flow", "show", graph.id, "--json", "--count", "3").output)
    assert (few["more"], len(few["sets"])) == (7, 3)
    drawn = run("flow", "show", graph.id, "--mermaid").output.splitlines()
    assert drawn[:3] == [
        "flowchart TD", '  s0["tasks:noop<br>succeeded"]:::succeeded', '  s1["tasks:two (3)<br>3 succeeded"]:::succeeded',
    ]  # fmt: skip
    for arrow in ("s0 --> s1", "s2 -->|if it fails| s3", "s4 --> s5", "s0 -->|2 of them| s8", 'c9(["the end"]) -.-> s9'):
        assert f"  {arrow}" in drawn
    assert "alone" in run("flow", "show", graph.id, "--mermaid", "--json", status=2).output


def test_programs_are_told_of_all_that_there_is(queue: Queue) -> None:
    graph = chain(*(call("noop", number) for number in range(210))).submit(queue)
    where = ("flow", "show", graph.id, "--queue", queue.name)
    found = json.loads(run(*where, "--json").output)
    assert (len(found["sets"]), found["more"]) == (210, 0)
    assert found["sets"][0]["says"] == "queued"
    assert len(json.loads(run(*where, "--nodes", "--json").output)) == 210
    assert len(json.loads(run(*where, "--nodes", "--json", "--count", "2").output)) == 2
    assert json.loads(run(*where, "--nodes", "--json", "--state", "failed").output) == []
    listed = run(*where, "--nodes").output.splitlines()
    assert (len(listed), listed[-1]) == (201, "the first 200 are shown: --count shows more")
    assert len(run(*where, "--nodes", "--count", "210").output.splitlines()) == 210
    graph.cancel()
    burst(queue)


def test_text_in_mermaid_stays_text(queue: Queue) -> None:
    flow = Flow(queue)
    many = [flow.add(call(), name='"]:::x;<b>&') for _ in range(3)]
    for _ in range(2):
        flow.add(call(), after=many)
    drawn = run("flow", "show", flow.submit().id, "--queue", queue.name, "--mermaid").output
    assert 's0["#34;]:::x#59;#60;b#62;#38;<br>released"]' in drawn
    assert drawn.count(" --- j0") == 3
    assert [f"  j0 --> s{number}" in drawn for number in (3, 4)] == [True, True]
    burst(queue)


def test_workflows_are_listed(graph: Run, queue: Queue) -> None:
    other = chain(call(), call()).submit(queue)
    listed = run("flow", "list", queue.name).output.splitlines()
    assert sorted(line.split()[0] for line in listed) == sorted([graph.id, other.id])
    burst(queue)
    first, second = run("flow", "list", queue.name).output.splitlines()
    assert first.startswith(f"{graph.id}  20")
    assert first.endswith(f"{queue.name}  import: running, 8 of 11 nodes ended, 1 failed, 1 skipped")
    assert second.endswith("(no name): succeeded, 2 of 2 nodes ended")
    assert "nothing in workflow" in (says := run("flow", "retry", other.id, status=1).output)
    assert says.endswith("has failed; --mode all runs it all again\n")
    assert run("flow", "list", queue.name, "--no-ended").output.splitlines() == [first]
    (found,) = json.loads(run("flow", "list", queue.name, "--state", "succeeded", "--json").output)
    assert (found["id"], found["total"]) == (other.id, 2)


def test_a_list_says_where_it_looked_and_what_it_has_left_out(
    graph: Run, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = chain(call()).submit(queue)
    ids = {graph.id, other.id}
    assert {line.split()[0] for line in run("flow", "list", "--queue", queue.name).output.splitlines()} == ids
    assert len(run("flow", "list", queue.name, "--queue", queue.name).output.splitlines()) == 2  # and not each twice
    listed = run("flow", "list", queue.name, "--count", "1").output.splitlines()
    assert (len(listed), listed[1]) == (2, "the first 1 are shown: --count shows more")
    monkeypatch.setattr("delayed.cli.flow._LOOKED_AT", 1)
    says = run("flow", "list", queue.name, "--state", "failed").output
    assert says == f"looked at the first 1 workflows of {queue.name}, and there are more\n"
    monkeypatch.setattr("delayed.cli.flow._LOOKED_AT", 2)
    assert run("flow", "list", queue.name, "--state", "failed").output == ""
    for each in (graph, other):
        each.cancel()
    burst(queue)


def test_a_workflow_gets_signals_and_is_retried_and_cancelled(graph: Run, queue: Queue) -> None:
    burst(queue)
    assert "no JSON" in run("flow", "signal", graph.id, "approved", "{", status=2).output
    assert run("flow", "signal", graph.id, "approved", '{"by": "ada"}').output == f"{graph.id}: has the signal 'approved'\n"
    assert "the first one counts" in run("flow", "signal", graph.id, "approved", status=1).output
    assert graph.value("wait for approved") == {"by": "ada"}
    burst(queue)
    assert graph.status().state == "succeeded"  # the failure was provided for
    assert "has ended" in run("flow", "cancel", graph.id, status=1).output
    assert run("flow", "retry", graph.id).output == f"{graph.id}: 2 nodes to run\n"
    assert run("flow", "cancel", graph.id).output == f"{graph.id}: cancelled\n"
    burst(queue)


def test_a_workflow_that_has_ended_is_removed(graph: Run, queue: Queue) -> None:
    burst(queue)
    assert (
        f"workflow {graph.id} has not ended: it is running; cancel it first"
        in run("flow", "delete", graph.id, status=1).output
    )
    graph.cancel()
    burst(queue)
    assert run("flow", "delete", graph.id).output == f"{graph.id}: removed\n"
    assert run("flow", "list", queue.name).output == ""
    assert "is known" in run("flow", "delete", graph.id, status=1).output
    done, refused = read(queue, AuditFilter(queue=queue.name, act="flow.delete")).entries
    assert (done.what, done.result) == (graph.id, "done")
    assert "has not ended" in refused.result


def test_what_is_not_there_is_said(queue: Queue, client: redis.Redis) -> None:
    odd = "0" * 16
    assert f"no workflow {odd} is known in {queue.name}" in run("flow", "show", odd, "--queue", queue.name, status=1).output
    assert "no id of a workflow" in run("flow", "show", "x", status=2).output
    client.delete("delayed:queues")
    for words in (["flow", "show", odd], ["flow", "list"], ["task", "show", odd]):
        assert "name a queue, or an application" in run(*words, status=2).output
    assert "not both" in run("flow", "list", queue.name, "--app", "tests.app.shop:app", status=2).output


def test_a_node_is_shown_while_it_waits_and_after(graph: Run, queue: Queue) -> None:
    nodes = list(graph.nodes())
    waits = run("task", "show", nodes[7].id, queue.name).output.splitlines()
    assert waits == [
        f"id:     {nodes[7].id}", f"queue:  {queue.name}", f"flow:   {graph.id} import", "node:   7, tasks:noop: waiting",
        "after:  [1] tasks:two, [4] wait for approved",
    ]  # fmt: skip
    burst(queue)
    failed = run("task", "show", nodes[4].id).output
    for line in (
        "node:   4, page: failed: builtins.ValueError: no such",
        "after:  [0] tasks:noop",
        "state:    failed",
        "dead: ",
    ):
        assert line in failed
    assert "node:   2, tasks:two, one of 3: succeeded" in run("task", "show", nodes[2].id).output
    assert json.loads(run("task", "show", nodes[7].id, "--json").output)["node"]["state"] == "waiting"
    assert "state:    running" in run("task", "show", graph.id).output


def test_a_node_in_another_queue_is_found_by_its_home(queue: Queue, name: str) -> None:
    flow = Flow(queue)
    flow.add(GoTask("main.Index"), after=flow.add(call()))
    graph = flow.submit()
    from_home = run("task", "show", next(graph.nodes()).id, queue.name).output
    assert f"queue:  {name}" in from_home
    assert [each.label for each in view(graph).sets] == ["tasks:noop", "main.Index"]
    graph.cancel()
    burst(queue)


def test_many_nodes_that_are_alike_are_one_line(queue: Queue) -> None:
    flow = Flow(queue)
    first = [flow.add(call()) for _ in range(7)]
    second = [flow.add(call(), after=first) for _ in range(7)]
    last = flow.add(call(), after=second)
    graph = flow.submit()
    tree = run("flow", "show", graph.id, "--queue", queue.name).output.splitlines()[2:]
    assert tree == [
        f"├─ [0-6] tasks:noop (7)   {'':16}  7 released",
        f"├─ [7-13] tasks:noop (7)  {'':16}  7 waiting  (after 0, 1, 2, 3, 4, …)",
        f"└─ [14] tasks:noop        {graph.node(last).id}  waiting  (after 7, 8, 9, 10, 11, …)",
    ]
    graph.cancel()
    burst(queue)
