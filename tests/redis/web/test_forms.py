"""The forms that pages include work as they stand, without JavaScript; who may not use them does not see them."""

from html.parser import HTMLParser
from typing import Any

import redis
from starlette.requests import Request

from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.dead_letters.letter import dead_letter
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.web.acting import context
from delayed.workflow import Flow
from tests.redis.ops.test_audit import letters
from tests.redis.ops.test_waiting import fill
from tests.redis.web.test_acting import SAME, Pages

IMPORT = '{% import "acts/macros.html" as acts with context %}'


class Forms(HTMLParser):
    """The forms of a page: where they go, the fields as they stand, and the buttons."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self._area = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.forms.append({"action": given["action"], "fields": {}, "buttons": []})
        elif tag == "input" and given.get("type") != "checkbox":
            self.forms[-1]["fields"][given["name"]] = given.get("value") or ""
        elif tag == "textarea":
            self._area = given["name"] or ""
        elif tag == "select":
            self.forms[-1]["fields"][given["name"]] = "failed_only"
        elif tag == "button":
            self.forms[-1]["buttons"].append(given.get("formaction") or self.forms[-1]["action"])

    def handle_data(self, data: str) -> None:
        if self._area:
            self.forms[-1]["fields"][self._area] = data

    def handle_endtag(self, tag: str) -> None:
        self._area = "" if tag == "textarea" else self._area


def rendered(pages: Pages, call: str, **given: Any) -> str:
    request = Request({"type": "http", "method": "GET", "path": "/here", "query_string": b"q=1&x=%22", "headers": []})
    template = pages.templates.from_string(IMPORT + "{{ acts." + call + " }}")
    return template.render(**context(pages, request), **given)


def posted(queue: Queue, call: str, **given: Any) -> list[str]:
    """Submit each form by each of its buttons; what destroys asks first. Returns to which acts they belong."""
    pages, acts = Pages(queue), []
    text = rendered(pages, call, queue=queue.name, **given)
    assert "<form" not in rendered(Pages(queue, "view"), call, queue=queue.name, **given)
    assert "<form" not in rendered(Pages(queue, readonly=True), call, queue=queue.name, **given)
    for form in Forms(text).forms:
        assert form["fields"]["back"] == "/here?q=1&x=%22"
        for action in form["buttons"]:
            act = action.rpartition("/")[2]
            answer = pages.client.post(action, data={**form["fields"], **given.get("typed", {}).get(act, {})}, headers=SAME)
            assert answer.status_code in (200, 303), (act, answer.text)
            acts.append(act)
    return acts


def test_queue(queue: Queue) -> None:
    call = "queue_acts(queue, limits)"
    assert posted(queue, call, limits=queue.limits(), typed={"queue.limit": {"rate": "5"}}) == [
        "queue.pause", "queue.limit", "queue.purge",
    ]  # fmt: skip
    assert queue.limits().rate == 5
    assert posted(queue, call, limits=queue.limits()) == ["queue.resume", "queue.limit", "queue.limit", "queue.purge"]
    assert not queue.limits().any


def test_dead_letter(queue: Queue, client: redis.Redis) -> None:
    first, second = letters(queue, 2)
    letter = dead_letter(queue, second)
    assert letter is not None
    assert posted(queue, "letter_acts(queue, letter, data)", letter=first, data=b"\x05") == ["dead.retry", "dead.delete"]
    text = rendered(Pages(queue), "letter_acts(queue, letter, data)", queue=queue.name, letter=second, data=letter.data)
    form = Forms(text).forms[-1]
    assert form["fields"]["args"] == "[1]"
    assert Pages(queue).client.post(form["action"], data={**form["fields"], "args": "[7]"}, headers=SAME).status_code == 200
    assert client.lindex(queue.name, -1) == PyTask("m:fails", (7,)).serialize()


def test_those_that_are_marked_and_all_that_match(queue: Queue, client: redis.Redis) -> None:
    (identity,) = letters(queue, 1)
    acts = [("dead.retry", "Retry"), ("dead.delete", "Remove…")]
    typed = {act: {"id": identity} for act, _ in acts}
    assert posted(queue, "chosen(queue, some)", some=acts, typed=typed) == ["dead.retry", "dead.delete"]
    assert queue.len() == 1
    assert 'form="chosen"' in rendered(Pages(queue), "box('1-1', 'mark it')")
    given = {"task": None, "error": 'a "quoted" <error>', "overdue": False}
    assert posted(queue, "matching(queue, filter, some)", filter=given, some=acts) == ["dead.retry", "dead.delete"]


def test_task(queue: Queue) -> None:
    later = fill(queue)
    call = "task_acts(queue, task, state, where)"
    assert posted(queue, call, task=later, state="scheduled", where="scheduled") == [
        "task.run", "task.move", "task.cancel",
    ]  # fmt: skip
    assert posted(queue, call, task=later, state="running", where="") == ["task.cancel", "task.cancel"]
    assert posted(queue, call, task=later, state="dead", where="") == []


def test_workflow(queue: Queue) -> None:
    flow = Flow(queue)
    flow.wait("go")
    run = flow.submit()
    call = "flow_acts(queue, flow, ended)"
    assert posted(queue, call, flow=run.id, ended=False, typed={"flow.signal": {"name": "x"}}) == [
        "flow.cancel",
        "flow.signal",
    ]
    run.cancel()
    assert posted(queue, call, flow=run.id, ended=True) == ["flow.retry"]


def test_schedule(queue: Queue) -> None:
    Schedules(queue).put("a <b> & 'c'", Entry(Cron("0 3 * * *"), PyTask("m:f").serialize()))
    call = "schedule_acts(queue, schedule, paused)"
    assert posted(queue, call, schedule="a <b> & 'c'", paused=False) == ["cron.pause", "cron.run", "cron.remove"]
    assert posted(queue, call, schedule="a <b> & 'c'", paused=True) == ["cron.resume", "cron.run", "cron.remove"]


def test_what_others_write_is_text(queue: Queue) -> None:
    for call in ("schedule_acts(queue, evil, False)", "button('queue.pause', evil, 'x', {'id': evil})", "box(evil, evil)"):
        assert "<script" not in rendered(Pages(queue), call, queue=queue.name, evil='"><script>')
