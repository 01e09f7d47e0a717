"""The commands that docs/operations.md gives as answers to questions, and as probes, do what it says."""

import re
import shlex
import socket
import time

import msgpack
import pytest
import redis
from starlette.testclient import TestClient

from delayed import web
from delayed.dead_letters.search import Search
from delayed.ops.actions import pause_queue
from delayed.ops.audit import Actor
from delayed.ops.causes import causes
from delayed.ops.job_records import jobs
from delayed.ops.jobs import begin
from delayed.queue.history import event, packed
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests import ROOT
from tests.support.command import run

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
QUESTIONS = dict(re.findall(r"^\| ([^|]+[^| ]) \| `delayed ([^`]+)` \|$", OPERATIONS, re.MULTILINE))
ALL_QUESTIONS = tuple(QUESTIONS)
REFUSED = "ConnectionError: Connection refused"


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


@pytest.fixture
def mail(queue: Queue, client: redis.Redis) -> Queue:
    """A queue with a worker, an overdue task, one that runs, two that wait, and 300 dead letters that say the same."""
    keys = queue.keys
    queue.enqueue(PyTask("m:runs", ("dora",)))
    queue.store.take([keys.lease("t", 0)], "t", 60, waiting=True)
    about = {"kind": "worker", "language": "python", "place": f"{socket.gethostname()}:7", "queues": [queue.name]}
    queue.store.beat("t", 60, msgpack.packb(about))
    queue.store.serve()
    queue.enqueue_many(PyTask("m:waits", (number,), track=True) for number in range(2))
    late = round(time.time() * 1000) - 300_000
    client.zadd(keys.scheduled, {b"0123456789abcdef" + PyTask("m:late", ("bob",)).serialize(): late})
    for number in range(301):
        said = f"{REFUSED} by {number + 10_000}" if number else "ValueError: no"
        task = PyTask("m:fails", (number,)).serialize()
        client.xadd(keys.dead, {"task": task, "reason": "failed", "detail": said, "worker": "h:1"})
    return queue


def keep_failures(queue: Queue) -> None:
    batch = packed("h:1", {}, [event(time.time(), "failed", "m:fails", said="no")], 0.0)
    queue.store.call("XADD", queue.keys.history, "*", "batch", batch)


def answered(question: str, queue: Queue, **other: str) -> str:
    """What the command that the document gives prints, for this queue."""
    words = shlex.split(QUESTIONS.pop(question))
    named = {"mail": queue.name, **other}
    return run(*(named.get(word, word) for word in words)).output


def test_each_question_takes_one_command(mail: Queue) -> None:
    (handle_id,) = re.findall(r"task show (\S+)", QUESTIONS["What happened to task X?"])
    (some_cause,) = re.findall(r"--cause (\S+)", QUESTIONS["300 failed for this cause: retry them"])
    tracked = run("task", "list", mail.name, "--state", "tracked", "--look-at", "10000000").output.split()[0]
    cause = causes(mail).causes[0]
    place = f"{socket.gethostname()}:7"
    (row,) = re.findall(rf"^{mail.name} +(.*)$", answered("What waits, where, and for how long?", mail), re.MULTILINE)
    assert re.fullmatch(r"2 +0 +0 +1 \(1 overdue\) +0 +1 +301 +5\.\d min +- +1", row.replace("  5 min", "  5.0 min"))
    assert f"worker {place} (python) serves {mail.name}" in answered("Who serves this queue?", mail)
    assert "m:late('bob')" in answered("Is anything overdue?", mail)
    assert "state:    queued" in answered("What happened to task X?", mail, **{handle_id: tracked})
    (handle_id,) = re.findall(r"task history (\S+)", QUESTIONS["What happened to task X yesterday?"])
    assert "enqueued" in answered("What happened to task X yesterday?", mail, **{handle_id: tracked})
    keep_failures(mail)
    assert "failed      -                 m:fails" in answered("What failed in the last two hours?", mail)
    assert QUESTIONS.pop("What happens at this moment?") == "watch mail"  # it goes on for ever: see test_watch.py
    assert f"m:runs('dora')  by {place}" in answered("What runs now, and where?", mail)
    assert "m:waits(0)" in answered("What is taken next?", mail)
    assert f"{cause.id}      300  " in answered("What failed, and why?", mail)
    assert answered("Which failed with this message?", mail).count(REFUSED) == 50
    assert f"{place} serves it" in answered("Is this host's worker well?", mail)
    many = "80,000 failed for this cause: retry them, and let me watch"
    (watched,) = re.findall(r"--cause (\S+)", QUESTIONS[many])
    assert "dead.retry" in answered(many, mail, **{watched: cause.id})
    assert "open: 0 done" in answered("How far is that, and who began it?", mail)
    run("job", "stop", mail.name, jobs(mail)[0].id)
    assert answered("300 failed with this message: retry them", mail) == "300 tasks wait again\n"
    run("queue", "pause", mail.name)
    again = causes(mail).causes[0].id  # what else there is
    assert answered("300 failed for this cause: retry them", mail, **{some_cause: again}) == "1 task waits again\n"
    assert "queue.pause" in answered("Who paused it, and who retried what?", mail)
    assert "mean run" in answered("How often did each function fail, and how long did it run?", mail)
    assert not QUESTIONS, "each question has its test"


def test_each_question_is_a_page_of_the_web_ui(mail: Queue) -> None:
    pages = re.findall(r"^\| ([^|]+[^| ]) \| [^|]+, `(/[^`]*)` \|", OPERATIONS, re.MULTILINE)
    assert len(pages) == 14
    assert {question for question, _ in pages} < {*ALL_QUESTIONS}
    begin(mail, Actor("ada", "here"), "dead.retry", Search(task="other:*"))
    pause_queue(mail, Actor("ada", "here"))
    keep_failures(mail)
    said = {
        "What happened to task X?": "Timeline",
        "Who serves this queue?": f"{socket.gethostname()}:7",
        "Is anything overdue?": "m:late",
        "What failed in the last two hours?": "m:fails",
        "What runs now, and where?": "m:runs",
        "What is taken next?": "m:waits",
        "What failed, and why?": "Retry all",
        "Which failed with this message?": "refused",
        "300 failed with this message: retry them": "Retry all that match",
        "300 failed for this cause: retry them": "Retry all",
        "How far is that, and who began it?": "dead.retry",
        "Who paused it, and who retried what?": "queue.pause",
    }
    browser = TestClient(web.app(mail.conn, access=web.everyone("operate"), queues=[mail.name]))
    tracked = mail.enqueue(PyTask("m:x", after=3600, track=True)).id
    assert tracked is not None
    for question, path in pages:
        reply = browser.get(re.sub(r"\bmail\b", mail.name, path.replace("0tq3n9GkFh2Jq0aZ", tracked)))
        assert reply.status_code == 200
        assert said.get(question, "") in reply.text, question


def test_the_probes_of_the_document_are_commands(mail: Queue) -> None:
    text = OPERATIONS.partition("## Probes")[2].partition("\n## ")[0]
    found = re.findall(r"(?:`|CMD |bin/)delayed (health[^`\n|]*)", text)
    found += [" ".join(words.split(", ")) for words in re.findall(r"\[delayed, ([^\]]+)\]", text)]
    assert len(found) == 10
    for words in found:
        well = "--max" not in words and "--workers 2" not in words
        named = [mail.name if word == "mail" else word for word in words.split()]
        said = run(*named, status=0 if well else 1).output
        assert ("failed  " in said) is not well
