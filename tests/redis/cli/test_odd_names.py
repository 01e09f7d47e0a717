"""Whatever the names of queues are, commands print them in one line each, and none of them is a command for the terminal."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from delayed.app import App
from delayed.base.clock import now
from delayed.base.escape import escaped
from delayed.cli.main import main
from delayed.cli.top_panes import PANES, Chosen
from delayed.cli.top_screens import text_of
from delayed.errors import UnknownTask
from delayed.ops.statistics import Counted, summary
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.support.letters import bury

ODD = "\x1b]0;mine\x07\u202e\nnew line"
SHOWN = "\\x1b]0;mine\\x07\\u202e\\nnew line"
NO_ID = "0123456789abcdef"


@pytest.fixture
def odd(queue: Queue, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A queue with such a name, which is served, and has something of each kind."""
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    found = Queue(f"{queue.name}{ODD}", queue.conn)
    found.store.serve()
    found.enqueue(PyTask("m:f", (ODD,), group=ODD))
    found.enqueue(PyTask(f"m:{ODD}", (ODD,), at=now() + 1000))
    bury(found, PyTask(f"m:{ODD}", (ODD,)), detail=f"ValueError: {ODD}")
    yield found
    found.store.forget()
    found.remove_interest()


def printed(*arguments: str) -> str:
    output = CliRunner().invoke(main, list(arguments), input="y\n").output
    assert all(line.isprintable() for line in output.split("\n")), output
    assert not any(line.startswith("new line") for line in output.split("\n")), output
    return output


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "task show": lambda q: ["task", "show", NO_ID],
    "task show of a queue": lambda q: ["task", "show", NO_ID, q],
    "task history": lambda q: ["task", "history", NO_ID, q],
    "task list": lambda q: ["task", "list", q],
    "task list, cut": lambda q: ["task", "list", q, "--look-at", "1"],
    "task peek": lambda q: ["task", "peek", q],
    "task move": lambda q: ["task", "move", q, NO_ID, "--after", "5"],
    "flow show": lambda q: ["flow", "show", NO_ID, "--queue", q],
    "queue list": lambda q: ["queue", "list"],
    "queue show": lambda q: ["queue", "show", q],
    "queue pause": lambda q: ["queue", "pause", q],
    "queue resume": lambda q: ["queue", "resume", q],
    "queue limit": lambda q: ["queue", "limit", q, "--rate", "5"],
    "queue peek": lambda q: ["queue", "peek", q],
    "queue history": lambda q: ["queue", "history", q],
    "queue purge": lambda q: ["queue", "purge", q],
    "queue rename": lambda q: ["queue", "rename", f"{q}x", "y"],
    "cron list": lambda q: ["cron", "list", q],
    "cron pause": lambda q: ["cron", "pause", q, ODD],
    "dead list": lambda q: ["dead", "list", q],
    "dead causes": lambda q: ["dead", "causes", q],
    "dead show": lambda q: ["dead", "show", q, NO_ID],
    "dead retry": lambda q: ["dead", "retry", q, "1-1"],
    "dead purge": lambda q: ["dead", "purge", q, "--all"],
    "history": lambda q: ["history", q],
    "info": lambda q: ["info", q],
    "info of all": lambda q: ["info"],
    "stats": lambda q: ["stats", q],
    "stats of all": lambda q: ["stats"],
    "audit": lambda q: ["audit", q],
    "doctor": lambda q: ["doctor", q, "--wait", "0"],
    "fsck": lambda q: ["fsck", q, "--wait", "0"],
    "health": lambda q: ["health", q, "--workers", "1"],
    "interest add": lambda q: ["interest", "add", q, "m:f", "--match", "k", "v"],
    "interest remove": lambda q: ["interest", "remove", q],
    "watch": lambda q: ["watch", q, "--for", "0.1"],
    "token revoke": lambda q: ["token", "revoke", q],
    "an option": lambda q: ["task", "list", "--state", ODD],
    "no command": lambda q: [ODD],
    "no option of ours": lambda q: [f"--{ODD}"],
    "no option": lambda q: ["task", "list", f"--{ODD}"],
    "no address": lambda q: ["info", "--redis", f"redis://x{ODD}:1/0"],
    "no application": lambda q: ["flow", "list", "--app", f"m{ODD}:app"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_names_are_escaped(odd: Queue, command: str) -> None:
    printed("queue", "pause", odd.name)
    printed(*COMMANDS[command](odd.name))
    printed(*COMMANDS[command](f"{odd.name}x"))  # nobody knows it


def test_of_many_queues_the_first_are_named(odd: Queue) -> None:
    names = [f"{odd.name}{number}" for number in range(15)]
    for command in (["task", "show", NO_ID, *names], ["task", "history", NO_ID, *names]):
        assert f"{SHOWN}9, and 5 more" in printed(*command)
    assert f"{SHOWN}9, and 5 more" in printed("flow", "show", NO_ID, *(word for name in names for word in ("--queue", name)))
    app = App(odd.conn, queues=names)
    for look in (app.run, app.cancel):
        with pytest.raises(UnknownTask, match=r"\\nnew line.*, and [56] more"):
            look(NO_ID)


def test_columns_are_as_wide_as_what_is_printed() -> None:
    head, row, other = summary("queue", {"\x1b[1m": Counted({}), "plain": Counted({})})
    assert len(escaped(row)) == len(other) == len(head)


def test_top_shows_them_escaped(odd: Queue) -> None:
    for name, pane in PANES.items():
        for state in ("waiting", "dead"):
            rows = pane(Chosen((odd,), odd, state)).rows
            texts = [cell.text for row in rows for cell in row.cells]
            assert all(text.isprintable() for text in texts), name
    assert text_of(f"{ODD}?").plain == ODD.replace("\x1b", "\\x1b").replace("\x07", "\\x07").replace("\u202e", "\\u202e") + "?"
    assert PANES["queues"](Chosen((odd,), odd)).rows[0].key == odd.name  # by which it is found again
