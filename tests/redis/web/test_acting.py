"""The forms of the web UI: who may act, from where, what is asked first, and what a page shows of what it did."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Self
from urllib.parse import quote

import jinja2
import pytest
import redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount
from starlette.testclient import TestClient

from delayed.ops.acts import ACTS
from delayed.ops.audit import AuditFilter, read
from delayed.ops.job_records import job_of, jobs
from delayed.ops.jobs import Runner
from delayed.queue.queue import Queue
from delayed.queue.waiting import search
from delayed.task.hidden import hiding
from delayed.web.access import Access
from delayed.web.acting import context, job_path, routes, work_on_jobs
from delayed.web.words import part
from tests.redis.ops.test_audit import letters

BASE = "<title>{{ title }}</title>{% block head %}{% endblock %}<main>{% block main %}{% endblock %}</main>"
EVIL = "<script>alert(1)</script>"
SAME = {"sec-fetch-site": "same-origin"}  # as browsers send it with a form of ours


class Pages:
    """An application that has nothing but the acting side."""

    def __init__(self, queue: Queue, role: str = "admin", *, readonly: bool = False, prefix: str = "") -> None:
        self._queue, self._who, self._prefix = queue, Access(role, "ada"), prefix
        self.readonly = readonly
        loaders = [jinja2.DictLoader({"base.html": BASE}), jinja2.PackageLoader("delayed", "web/templates")]
        self.templates = jinja2.Environment(loader=jinja2.ChoiceLoader(loaders), autoescape=True)
        site = Starlette(routes=routes(self))
        self.client = TestClient(Starlette(routes=[Mount(prefix, site)]) if prefix else site, follow_redirects=False)

    def queue(self, name: str) -> Queue:
        return Queue(name, self._queue.conn)

    def shows(self, name: str) -> bool:
        return True

    def queues(self) -> list[Queue]:
        return [self._queue]

    def access(self, request: Request) -> Access:
        return self._who

    def seen_by(self, access: Access) -> Self:
        return self

    def hiding(self, access: Access, *queues: str) -> AbstractContextManager[None]:
        return hiding(every=False)

    def path(self, request: Request, path: str) -> str:
        return self._prefix + path

    def page(self, request: Request, template: str, context_: Mapping[str, Any], status: int = 200) -> Response:
        text = self.templates.get_template(template).render(**context(self, request), **context_)
        return HTMLResponse(text, status)

    def post(self, act: str, *, queue: str | None = None, **fields: Any) -> Any:
        path = f"{self._prefix}/queues/{part(queue or self._queue.name)}/acts/{act}"
        return self.client.post(path, data=fields)


def dumped(client: redis.Redis, name: str) -> dict[bytes, Any]:
    """All that the server has of a queue, and of the audit."""
    keys = [*client.scan_iter(f"{name}*"), b"delayed:audit"]
    return {key: client.dump(key) for key in sorted(keys)}


def without_ttl(client: redis.Redis, name: str) -> dict[bytes, Any]:
    return {key: value for key, value in dumped(client, name).items() if b"_lease_" not in key}


@pytest.mark.parametrize(
    ("role", "readonly"),
    [("view", False), ("admin", True)],
)
def test_who_may_not_act_changes_nothing_by_any_route(
    queue: Queue, client: redis.Redis, full: dict[str, dict[str, Any]], role: str, readonly: bool
) -> None:
    pages, before = Pages(queue, role, readonly=readonly), without_ttl(client, queue.name)
    posts = [route for route in routes(pages) if "POST" in (route.methods or ())]
    assert [route.name for route in posts] == ["act"]
    assert set(full) == set(ACTS)
    for act, fields in full.items():
        answer = pages.post(act, sure="yes", **fields)
        assert answer.status_code == 403, act
        assert "Nothing has happened" in answer.text
    assert without_ttl(client, queue.name) == before


def test_who_may_does_with_the_same_forms(queue: Queue, client: redis.Redis, full: dict[str, dict[str, Any]]) -> None:
    pages = Pages(queue)
    for act, fields in full.items():
        before = without_ttl(client, queue.name)
        answer = pages.post(act, sure="yes", **fields)
        assert answer.status_code in (200, 303), (act, answer.text)
        assert "Nothing has happened" not in answer.text
        assert without_ttl(client, queue.name) != before, act
    while Runner(lambda: [queue]).step():
        pass
    assert not list(search(queue))
    found = read(queue, AuditFilter(queue=queue.name, who="ada")).entries
    assert {entry.act for entry in found} == set(ACTS)
    assert all(entry.origin in ("ui testclient", "here") for entry in found)


def test_an_operator_may_not_remove_for_good(queue: Queue, client: redis.Redis, full: dict[str, dict[str, Any]]) -> None:
    pages, needed = (
        Pages(queue, "operate"),
        {"queue.purge", "dead.delete", "task.delete", "cron.remove", "interest.remove", "fsck.repair"},
    )
    refused = {act for act, fields in full.items() if pages.post(act, sure="yes", **fields).status_code == 403}
    assert refused == needed


def test_what_removes_is_asked_first(queue: Queue, client: redis.Redis) -> None:
    pages, ids = Pages(queue), letters(queue, 3)
    asked = pages.post("dead.delete", id=ids, back="/audit?x=1")
    assert asked.status_code == 200
    assert "Remove 3 dead letters" in asked.text
    assert re.findall(r'name="id" value="([^"]+)"', asked.text) == ids
    assert '<a href="/audit?x=1">' in asked.text
    assert client.xlen(queue.keys.dead) == 3
    done = pages.post("dead.delete", id=ids, sure="yes", back="/audit?x=1")
    assert "3 dead letters removed" in done.text
    assert client.xlen(queue.keys.dead) == 0


def test_a_question_says_what_is_meant(queue: Queue) -> None:
    pages = Pages(queue)
    asked = pages.post("dead.delete", matching="1", error="refused", reason="failed").text
    assert "Remove all dead letters that match (error=refused, reason=failed) of the queue" in asked
    assert "Remove all dead letters of the queue" in pages.post("dead.delete", matching="1").text
    assert "Cancel all tasks that match (task=m:*) of the queue" in pages.post("task.cancel", matching="1", task="m:*").text


def test_all_that_match_is_a_job_with_a_page(queue: Queue, client: redis.Redis) -> None:
    pages = Pages(queue)
    letters(queue, 1200)
    answer = pages.post("dead.retry", matching="1", error="ValueError")
    assert answer.status_code == 303
    (job,) = jobs(queue)
    assert answer.headers["location"] == job_path(job)
    shown = pages.client.get(job_path(job)).text
    assert '<meta http-equiv="refresh" content="2">' in shown
    assert 'value="0"' in shown
    assert "Stop after the page at hand" in shown
    assert "Stop after" not in Pages(queue, "view").client.get(job_path(job)).text
    Runner(lambda: [queue]).step()
    shown = pages.client.get(job_path(job)).text
    assert "1,200" in shown
    assert "refresh" not in shown
    assert job_path(job) in pages.client.get("/jobs").text
    assert pages.client.get(job_path(job) + "x").status_code == 404


def test_a_part_of_it_may_be_left(queue: Queue, client: redis.Redis) -> None:
    (identity,) = letters(queue, 1)
    text = Pages(queue).post("dead.retry", id=[identity, "1-1"]).text
    assert "1 task waits again" in text
    assert "has no dead letter 1-1" in text


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""])
def test_it_leads_back_to_pages_of_ours_only(queue: Queue, back: str) -> None:
    assert '<a href="/">' in Pages(queue).post("queue.pause", back=back).text


def test_under_a_prefix(queue: Queue, client: redis.Redis) -> None:
    pages = Pages(queue, prefix="/ops/ui")
    letters(queue, 1)
    assert pages.post("queue.pause", back="/audit").text.count('<a href="/ops/ui/">') == 1
    assert pages.post("queue.pause", back="/ops/ui/audit").text.count('<a href="/ops/ui/audit">') == 1
    assert pages.post("dead.retry", matching="1").headers["location"].startswith("/ops/ui/queues/")
    (job,) = jobs(queue)
    shown = pages.client.get("/ops/ui" + job_path(job)).text
    assert f'action="/ops/ui/queues/{queue.name}/acts/job.stop"' in shown
    assert "/ops/ui/queues/" in pages.client.get("/ops/ui/jobs").text


@pytest.mark.parametrize("odd", ["a b", "new\nline", "x/../y", "ä", "100%", "q?x", "q#x", "<b>"])
def test_queues_with_any_name(queue: Queue, client: redis.Redis, odd: str) -> None:
    called = f"{queue.name}{odd}"
    pages, other = Pages(queue), Queue(called, client)
    pages.post("queue.pause", queue=called)
    assert other.limits().paused
    path = pages.post("dead.retry", queue=called, matching="1").headers["location"]
    shown = pages.client.get(path)
    assert shown.status_code == 200
    (action,) = re.findall(r'action="([^"]+)"', shown.text)
    assert pages.client.post(action, data={"id": jobs(other)[0].id}).status_code in (200, 303)
    assert jobs(other)[0].state == "stopped"
    client.delete(other.keys.control, other.keys.bulk_jobs)


def test_what_others_write_is_text(queue: Queue, client: redis.Redis) -> None:
    pages = Pages(queue)
    texts = [
        pages.post("dead.retry", matching="1", reason=EVIL).text,
        pages.post("cron.remove", name=EVIL).text,
        pages.post("dead.delete", id=EVIL, odd=EVIL).text,
        pages.post("queue.purge", queue=f"{queue.name}{EVIL}").text,
        pages.post("queue.pause", queue=f"{queue.name}{EVIL}").text,
        pages.post("flow.signal", id="0123456789abcdef", name=EVIL).text,
        pages.post(quote(EVIL, safe="")).text,
    ]
    pages.post("dead.retry", matching="1", text=EVIL)
    (job,) = jobs(queue)
    texts += [pages.client.get(path).text for path in (job_path(job), "/jobs", "/audit", f"/audit?who={quote(EVIL)}")]
    assert sum("&lt;script&gt;" in text for text in texts) >= 8
    assert all("<script" not in text for text in texts)
    client.delete(f"{queue.name}{EVIL}_control")


def test_the_audit_goes_on(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.web.acting._ENTRIES", 2)
    pages = Pages(queue)
    for act in ("queue.pause", "queue.resume", "queue.pause"):
        pages.post(act)
    shown = pages.client.get("/audit", params={"queue": queue.name}).text
    assert shown.count("ui testclient") == 2
    (more,) = re.findall(r'<a href="(\?before=[^"]+)">', shown)
    assert pages.client.get("/audit" + more.replace("&amp;", "&")).text.count("ui testclient") == 1
    assert pages.client.get("/audit?before=x").status_code == 200
    assert 'value="queue.pause"' in pages.client.get("/audit?act=queue").text
    unknown = pages.client.get("/audit?act=<b>dead.purge")
    assert unknown.status_code == 400
    assert "there is no act &#39;&lt;b&gt;dead.purge&#39;; these there are: queue.pause, " in unknown.text


def test_what_is_no_form_is_refused(queue: Queue, client: redis.Redis) -> None:
    pages, before = Pages(queue), dumped(client, queue.name)
    path = f"/queues/{queue.name}/acts/queue.limit"
    sent: list[tuple[bytes, int]] = [
        (b"x" * (1 << 20) + b"x", 413), (b"\xff\xfe", 400), (b"a=1&" * 10_001, 400), (b"", 400), (b"rate=1&lift=1", 400),
    ]  # fmt: skip
    for body, status in sent:
        assert pages.client.post(path, content=body).status_code == status
    assert pages.post("queue.x").status_code == 404
    assert pages.client.get(path).status_code == 405
    after = dumped(client, queue.name)
    assert {key for key in before if before[key] != after[key]} <= {b"delayed:audit"}


def test_redis_may_be_away(queue: Queue, client: redis.Redis) -> None:
    away = Pages(Queue(queue.name, "redis://127.0.0.1:1"))
    reply = away.post("queue.pause")
    assert (reply.status_code, "It may have been done or not" in reply.text) == (503, True)
    for path in ("/jobs", "/audit", f"/queues/{queue.name}/jobs/x"):
        assert away.client.get(path).status_code == 503
    client.rpush(queue.keys.control, "x")
    assert Pages(queue).post("queue.pause").status_code == 503
    client.delete(queue.keys.control)


async def test_jobs_are_worked_on_beside_the_pages(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    letters(queue, 5)
    pages = Pages(queue)
    pages.post("dead.retry", matching="1")
    (job,) = jobs(queue)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    await work_on_jobs(pages, lambda: len(pauses) > 1, pause)
    assert job_of(queue, job.id).done == 5
