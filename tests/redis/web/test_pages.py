"""Each page answers, shows what others have written as text, and costs Redis little, however much there is."""

import asyncio
import gzip
import html
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any
from urllib.parse import quote, unquote

import msgpack
import pytest
import redis
from a2wsgi import ASGIMiddleware
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path as django_path
from fastapi import FastAPI
from flask import Flask
from starlette.requests import Request
from starlette.testclient import TestClient

from delayed import web
from delayed.base.clock import now
from delayed.base.ids import new_id, node_id
from delayed.cron.schedules import Schedules
from delayed.ops.audit import Actor, write
from delayed.ops.causes import causes
from delayed.ops.job_records import create
from delayed.queue.history import event, packed
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted, move, search
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.pool import Pooled
from delayed.task.task import PyTask
from delayed.web.acting import job_path
from delayed.web.guard import POLICY
from delayed.web.live import Live
from delayed.web.pages import PAGES
from delayed.web.site import Site
from delayed.web.words import part
from delayed.workflow import Flow, group
from delayed.workflow.run import Run
from tests.conftest import burst
from tests.redis.web.browsing import Full, browser, filled
from tests.support.letters import bury
from tests.support.secrets import CALLED, tell

EVIL = "\"><script>alert(1)</script>'<img src=x onerror=alert(1)>/.."
UNBOUNDED = {"keys", "smembers", "hgetall", "hvals", "sort", "lrem", "lpos"}  # HKEYS is for hashes that are small


def counted(client: redis.Redis, ask: Callable[[], object]) -> tuple[Counter[str], int]:
    """The commands that something sends, and its round trips."""
    trips: list[int] = []

    def exchanged(pooled: Pooled, exchange: Callable[..., Any], what: Any) -> Any:
        trips.append(1)
        return first(pooled, exchange, what)

    def calls() -> Counter[str]:
        found: Any = client.info("commandstats")
        return Counter({name.removeprefix("cmdstat_"): about["calls"] for name, about in found.items()})

    first, before = Pooled._first, calls()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pooled, "_first", exchanged)
        ask()
    commands = calls() - before
    commands["info"] -= 1
    return +commands, len(trips)


class Tags(HTMLParser):
    """The tags of a page, and the names of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.count, self.attributes = Counter[str](), set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += 1
        self.attributes |= {name for name, _ in attrs}


@pytest.fixture
def _always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page is kept."""
    monkeypatch.setattr("delayed.web.site._FRESH", -1)


def test_each_page_of_an_empty_queue(queue: Queue) -> None:
    with browser(queue) as site:
        for path in Full(queue.name, "0123456789abcdef", "1-1", "0123456789abcdef").paths:
            answer = site.get(path)
            gone = path.startswith("/task/") or path.rpartition("/")[0].endswith(("/dead", "/flows"))
            assert answer.status_code == (404 if gone else 200), (path, answer.text)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_each_page_of_a_full_one(queue: Queue, client: redis.Redis) -> None:
    full = filled(queue, client)
    create(queue, Actor("ada", "here"), "queue.pause", {}, total=0, newest="", moment=None)
    known = {path for path in PAGES if "{" not in path}
    assert known <= {path.partition("?")[0] for path in full.paths}
    with browser(queue, environment="production") as site:
        for path in full.paths:
            answer = site.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert 'class="badge environment production">production<' in answer.text
            assert site.head(path).status_code == 200


def test_what_is_gone_and_what_means_nothing(queue: Queue) -> None:
    site, below = browser(queue), f"/queues/{queue.name}"
    assert site.get("/nothing").status_code == 404
    assert "is kept, or it never was" in site.get("/task/0123456789abcdef").text
    assert "somebody has dealt with it" in site.get(f"{below}/dead/x").text
    assert site.get("/tasks?q=%22").status_code == 400
    assert site.get("/tasks?q=state:odd").status_code == 400
    assert site.get("/tasks?look=99999999999999").status_code == 200
    assert site.get(f"/queues/{quote('a' * 2000)}").status_code == 404


def test_the_id_of_a_workflow_leads_to_it(queue: Queue, client: redis.Redis) -> None:
    full = filled(queue, client)
    answer = browser(queue).get(f"/task/{full.flow}")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/queues/{queue.name}/flows/{full.flow}"


def test_redis_is_away() -> None:
    server = EmbeddedRedis()
    with server, server.client() as client:
        queue = Queue("away", client)
        paths = filled(queue, client).paths
        site = browser(Queue("away", redis.Redis.from_url(server.url, socket_timeout=1)))
        server.stop()
        for path in paths:
            answer = site.get(path)
            assert answer.status_code == 503, (path, answer.text)
            assert "Redis cannot be asked" in answer.text
        assert site.post("/queues/away/acts/queue.pause").status_code == 503


def test_headers_of_every_reply(queue: Queue) -> None:
    site = browser(queue)
    nobody = browser(queue, access=lambda request: None)
    for answer in (
        site.get("/"), site.get("/nothing"), site.get("/static/ui.js"), nobody.get("/"), site.delete("/"), site.put("/"),
        site.post("/", headers={"sec-fetch-site": "cross-site"}), nobody.get("/static/ui.css"),
        site.post(f"/queues/{queue.name}/acts/nothing"), site.get("/static/../site.py"),
    ):  # fmt: skip
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"]
    assert "unsafe" not in POLICY
    assert site.get("/").headers["cache-control"] == "no-store"
    assert site.delete("/").status_code == 405


def test_what_is_not_there_of_what_is_static_is_said_to_anybody(queue: Queue) -> None:
    for site, prefix in ((browser(queue, access=lambda request: None), ""), (browser(queue, prefix="/ui"), "/ui")):
        for path in ("nothing.js", "", "x/y", "%00", "a%0Ab", "%2e%2e/site.py", "a" * 1000):
            answer = site.get(f"{prefix}/static/{path}")
            assert (answer.status_code, answer.text) == (404, "There is no such file."), path


@pytest.mark.parametrize("prefix", ["", "/ui"])
def test_a_queue_whose_name_has_line_breaks(queue: Queue, client: redis.Redis, prefix: str) -> None:
    other = Queue(f"{queue.name}\nline\n", client)
    full, site = filled(other, client), browser(other, prefix=prefix)
    job = create(other, Actor("ada", "here"), "queue.pause", {}, total=0, newest="", moment=None)
    for path in [*(path for path in full.paths if other.name not in path), f"/queues/{part(other.name)}", job_path(job)]:
        answer = site.get(prefix + path)
        assert answer.status_code == 200, (path, answer.text)
    assert site.post(f"{prefix}/queues/{part(other.name)}/acts/queue.pause").status_code == 200
    assert other.limits().paused


def test_what_cannot_be_seen_is_written_out_and_forms_send_it_as_it_is(queue: Queue, client: redis.Redis) -> None:
    odd = "\x1b]0;mine\x07\u202e"
    other = Queue(f"{queue.name}{odd}", client)
    full, site, shown = filled(other, client, said=odd), browser(other), 0
    bury(other, PyTask(f"m:{odd}", (odd,)), detail=f"Traceback:\r\n\tValueError: {odd}")
    for path in [*full.paths, f"/queues/{part(other.name)}/jobs/none"]:
        answer = site.get(path)
        texts = [re.sub(r"[\n\t]", "", each) for each in re.findall(r">([^<]*)", answer.text)]
        assert all(each.isprintable() for each in texts), (path, [each for each in texts if not each.isprintable()])
        shown += answer.text.count("\\x1b]0;mine\\x07\\u202e")
    assert shown > 20
    page = site.get(f"/queues/{part(other.name)}/history", params={"text": odd}).text
    assert f'value="{odd}"' in page
    asked = site.post(f"/queues/{part(other.name)}/acts/dead.delete", data={"text": odd, "matching": "1"}).text
    assert f'value="{odd}"' in asked


def test_what_others_write_is_text(queue: Queue, client: redis.Redis) -> None:
    other = Queue(f"{queue.name}{EVIL}", client)
    full = filled(other, client, said=EVIL)
    letter = client.xrevrange(other.keys.dead, count=1)[0][0].decode()  # type: ignore[index, union-attr]
    site = browser(other, environment=EVIL)
    paths = [
        *full.paths,
        f"/queues/{part(other.name)}/dead/{letter}",
        f"/tasks?q={quote(EVIL)}",
        "/tasks?q=state:dead",
    ]
    shown = 0
    for path in paths:
        answer = site.get(path)
        assert answer.status_code in (200, 400), (path, answer.text)
        tags = Tags(answer.text)
        assert tags.count["script"] == 1, path
        assert not tags.count.keys() & {"img", "style", "iframe", "base", "object"}, path
        assert not [each for each in tags.attributes if each.startswith("on") or each in ("style", "srcdoc")], path
        shown += "&lt;script&gt;alert" in answer.text
    assert shown >= 12
    client.delete(*client.keys(f"{queue.name}?*"))


ODD = ["a b", "x/dead", "x/flows/y", "x~1y~", "ä", "1%", "q?x", "q#x", "<b>", "it's", 'say "x"']


@pytest.mark.parametrize("odd", ["".join(ODD), *(pytest.param(odd, marks=pytest.mark.slow) for odd in ODD)])
def test_queues_with_any_name_are_linked(queue: Queue, client: redis.Redis, odd: str) -> None:
    other = Queue(f"{queue.name}{odd}", client)
    filled(other, client)
    site, seen, left = browser(other), set[str](), {"/", "/tasks", "/dead", "/flows", "/schedules", "/redis"}
    while left:
        path = left.pop()
        answer = site.get(path)
        assert answer.status_code in (200, 303), (path, answer.text)
        seen.add(path)
        links = {
            each.replace("&amp;", "&").replace("&#39;", "'").partition("#")[0]
            for each in re.findall(r'href="([^"]+)"', answer.text)
        }
        left |= {each for each in links if each.startswith("/") and "static" not in each and "/acts/" not in each} - seen
        assert len(seen) < 100
    assert any("/dead/" in path for path in seen)
    assert any("/flows/" in path for path in seen)
    assert "tasks?q=state%3Awaiting" in site.get(f"/queues/{part(other.name)}").text
    client.delete(*client.keys(f"{queue.name}?*"))


def test_hidden_arguments_are_on_no_page(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_HIDE_ARGUMENTS", "m:* builtins:*")
    secret = "hunter2"
    task = queue.enqueue(PyTask("m:f", (secret,), {"password": secret}, track=True, after=60)).id
    done = queue.enqueue(PyTask("builtins:str", (secret,), result_ttl=60)).id
    burst(queue)
    (dead,) = bury(queue, PyTask("m:f", (secret,)))
    flow = Flow(queue)
    flow.add(PyTask("m:f", (secret,)))
    full = Full(queue.name, task or "", dead, flow.submit().id)
    site = browser(queue)
    texts = [site.get(path).text for path in (*full.paths, f"/task/{done}", "/tasks?q=state:dead")]
    assert not any(secret in text for text in texts)
    assert sum("(hidden)" in text for text in texts) >= 6
    assert "<h2>Result</h2><pre>(hidden)</pre>" in site.get(f"/task/{done}").text
    monkeypatch.delenv("DELAYED_HIDE_ARGUMENTS")
    assert "<pre>&#39;hunter2&#39;</pre>" in browser(queue).get(f"/task/{done}").text


def test_errors_of_hidden_functions_show_their_type_alone(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task was called with is often in what it raises."""
    told, secret = tell(queue, client, "canary4000"), "canary4000"
    site, paths = browser(queue), told.paths(queue.name)
    open_ones = [path for path in paths if secret in browser(queue).get(path).text]
    assert len(open_ones) >= 12, open_ones
    seen = causes(queue).causes[0].id
    monkeypatch.setenv("DELAYED_HIDE_ARGUMENTS", CALLED)
    texts = {path: site.get(path).text for path in paths}
    assert not [path for path, text in texts.items() if secret in text or secret.encode().hex() in text]
    assert [path for path in open_ones if "ValueError" not in texts[path] and "(hidden)" not in texts[path]] == []
    for words in ("state:dead", "state:retrying", "state:tracked", ""):
        for sought in (f"error:{secret}", secret):
            assert "0 found" in site.get(f"/tasks?q={words}+{sought}+queue:{queue.name}&look=1000000").text, (words, sought)
    assert "0 found" not in site.get(f"/tasks?q=state:dead+error:valueerror+queue:{queue.name}").text
    for filtered in (f"dead?error={secret}", f"dead?text={secret}", f"dead?cause={seen}", f"history?text={secret}"):
        assert "0 shown" in site.get(f"/queues/{queue.name}/{filtered}").text, filtered
    assert causes(queue).causes[0].says == "ValueError"


def test_results(queue: Queue) -> None:
    calls = [("str", "<b>"), ("range", 10_000_000), ("int", "x"), ("list", ["y" * 30_000])]
    ids = [queue.enqueue(PyTask(f"builtins:{name}", (given,), result_ttl=60)).id for name, given in calls]
    burst(queue)
    site = browser(queue)
    first, _, failed, long = (site.get(f"/task/{each}").text for each in ids)
    assert "<pre>&#39;&lt;b&gt;&#39;</pre>" in first
    assert "Result" not in failed
    assert "invalid literal" in failed
    assert 9_000 < long.count("y") < 11_000


# Access


def test_a_token_is_used_once(queue: Queue) -> None:
    token = web.OneTimeToken("operate", "grace")
    first, second = (TestClient(web.app(queue.conn, access=token, queues=[queue.name]), follow_redirects=False) for _ in "ab")
    secret = token.token
    assert first.get("/").status_code == 403
    assert first.get("/?token=wrong").status_code == 403
    assert first.get("/?token=%C3%A4").status_code == 403
    begun = first.get(f"/tasks?q=x&token={secret}")
    assert (begun.status_code, begun.headers["location"]) == (303, "/tasks?q=x")
    cookie = begun.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert secret not in cookie
    assert first.get("/").status_code == 200
    assert "role: operate" in first.get("/").text
    assert second.get(f"/?token={secret}").status_code == 403
    assert second.get("/?token=").status_code == 403
    assert second.get("/", headers={"cookie": "delayed_session=x"}).status_code == 403
    assert second.post(f"/queues/{queue.name}/acts/queue.pause").status_code == 403
    assert not queue.limits().paused


def test_passwords(queue: Queue) -> None:
    users = {"ada": web.User("pass:word", "admin"), "bob": web.User("ünsafe", "view")}
    site = browser(queue, access=web.passwords(users))
    assert site.get("/").status_code == 401
    assert site.get("/").headers["www-authenticate"].startswith("Basic ")
    for user, password in (("ada", "pass"), ("ada", ""), ("eve", "pass:word"), ("eve", ""), ("", "")):
        assert site.get("/", auth=(user, password)).status_code == 401
    for header in ("Basic !", "Basic /w==", "Bearer x", "Basic"):
        assert site.get("/", headers={"authorization": header}).status_code == 401
    assert "role: admin" in site.get("/", auth=("ada", "pass:word")).text
    assert "role: view" in site.get("/", headers={"authorization": "Basic Ym9iOsO8bnNhZmU="}).text
    path = f"/queues/{queue.name}/acts/queue.pause"
    assert site.post(path).status_code == 401
    assert site.post(path, headers={"authorization": "Basic Ym9iOsO8bnNhZmU="}).status_code == 403
    assert not queue.limits().paused
    assert site.post(path, auth=("ada", "pass:word")).status_code == 200


def test_a_proxy_says_who_it_is(queue: Queue) -> None:
    site = browser(queue, access=web.by_header("X-User", "view", {"ada": "admin"}))
    assert site.get("/").status_code == 403
    assert site.get("/", headers={"X-User": ""}).status_code == 403
    assert "role: view" in site.get("/", headers={"X-User": "bob"}).text
    assert "role: admin" in site.get("/", headers={"X-User": "ada"}).text
    assert site.post(f"/queues/{queue.name}/acts/queue.pause", headers={"X-User": "ada"}).status_code == 200
    assert "ada" in site.get("/audit", headers={"X-User": "bob"}).text


def test_a_proxy_names_persons_and_nobody_else_is_let_in(queue: Queue) -> None:
    site = browser(queue, access=web.by_header("X-User", None, {"ops": f"view,operate:{queue.name}"}))
    assert site.get("/", headers={"X-User": "bob"}).status_code == 403
    assert f"role: view,operate:{queue.name}" in site.get("/", headers={"X-User": "ops"}).text
    assert site.post(f"/queues/{queue.name}/acts/queue.pause", headers={"X-User": "ops"}).status_code == 200
    assert site.post(f"/queues/{queue.name}/acts/queue.purge", headers={"X-User": "ops"}).status_code == 403


def test_a_function_of_ones_own(queue: Queue) -> None:
    def who(request: Request) -> web.Access | None:
        return web.Access("operate", "carol") if request.headers.get("x-key") == "k" else None

    site = browser(queue, access=who)
    assert site.get("/").status_code == 403
    assert site.get("/", headers={"x-key": "k"}).status_code == 200


@pytest.mark.parametrize(("role", "readonly"), [("view", False), ("admin", True)])
def test_who_may_only_look_sees_no_form_of_an_act(queue: Queue, client: redis.Redis, role: str, readonly: bool) -> None:
    full = filled(queue, client)
    site, acting = browser(queue, role, readonly=readonly), browser(queue)
    below, with_forms = f"/queues/{queue.name}", 0
    for path in full.paths:
        text = site.get(path).text
        assert 'method="post"' not in text, path
        assert "/acts/" not in text, path
        with_forms += 'method="post"' in acting.get(path).text
    assert with_forms >= 7
    for act in ("queue.pause", "queue.purge", "dead.retry"):
        assert site.post(f"{below}/acts/{act}", data={"matching": "1", "sure": "yes"}).status_code == 403
    assert ("read-only" in site.get("/").text) == readonly


def test_the_reply_to_a_form_does_not_follow_changes(queue: Queue) -> None:
    site, path = browser(queue), f"/queues/{queue.name}/acts/queue.purge"
    assert "data-live" in site.get("/").text
    asked = site.post(path).text
    assert "Are you sure?" in asked
    assert "data-live" not in asked
    assert site.get(path).status_code in (404, 405)


def test_forms_of_other_sites_are_refused(queue: Queue) -> None:
    site, path = browser(queue), f"/queues/{queue.name}/acts/queue.pause"
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil"},
        {"origin": "null"},
    ):
        assert site.post(path, headers=headers).status_code == 403
    assert not queue.limits().paused
    for headers in ({"origin": "http://testserver"}, {}):  # of no browser, which is taken at its word
        assert site.post(path, headers=headers).status_code == 200


# Mounted


def test_mounted_under_a_prefix(queue: Queue, client: redis.Redis) -> None:
    full, outer = filled(queue, client), FastAPI()
    outer.mount("/ops/ui", web.app(queue.conn, access=web.everyone("admin"), queues=[queue.name]))
    site = TestClient(outer, follow_redirects=False)
    for path in full.paths:
        answer = site.get(f"/ops/ui{path}")
        assert answer.status_code == 200, path
        links = re.findall(r'(?:href|src|action|data-live)="([^"]+)"', answer.text)
        assert len(links) > 10
        assert all(link.startswith(("/ops/ui/", "?", "#")) for link in links), links
    assert 'href="/ops/ui/tasks" aria-current="page"' in site.get("/ops/ui/tasks").text
    assert site.get("/ops/ui/static/ui.css").status_code == 200
    done = site.post(f"/ops/ui/queues/{queue.name}/acts/queue.pause", data={"back": "/ops/ui/workers"})
    assert '<a href="/ops/ui/workers">' in done.text


def test_a_session_under_a_prefix_is_for_it_alone(queue: Queue) -> None:
    token = web.OneTimeToken()
    site = browser(queue, prefix="/ops/ui", access=token)
    begun = site.get(f"/ops/ui/?token={token.token}")
    assert begun.headers["location"] == "/ops/ui/"
    assert "Path=/ops/ui/" in begun.headers["set-cookie"]
    assert site.get("/ops/ui/").status_code == 200


def test_mounted_in_flask(queue: Queue, client: redis.Redis) -> None:
    full, flask = filled(queue, client), Flask("outer")
    app = ASGIMiddleware(web.app(queue.conn, access=web.everyone("admin"), queues=[queue.name]))
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    flask.wsgi_app = DispatcherMiddleware(flask.wsgi_app, {"/ui": app})  # type: ignore[method-assign, dict-item]
    site = flask.test_client()
    for path in full.paths:
        answer = site.get(f"/ui{path}")
        assert answer.status_code == 200, path
        assert 'href="/ui/static/ui.css"' in answer.text
    assert site.post(f"/ui/queues/{queue.name}/acts/queue.pause").status_code == 200
    assert queue.limits().paused
    app.loop.call_soon_threadsafe(lambda: [each.cancel() for each in asyncio.all_tasks(app.loop)])  # it works on jobs, too


def test_mounted_in_django(queue: Queue, client: redis.Redis) -> None:
    """As docs/ui.md has it."""
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    outer, full = get_asgi_application(), filled(queue, client)
    queues = web.below("/queues", web.app(queue.conn, access=web.everyone("admin"), queues=[queue.name]))

    async def application(scope: Any, receive: Any, send: Any) -> None:
        ours = scope["type"] == "http" and scope["path"].startswith("/queues/")
        await (queues if ours else outer)(scope, receive, send)

    site = TestClient(application)
    assert site.get("/shop/").text == "the shop"
    for path in full.paths:
        answer = site.get(f"/queues{path}")
        assert answer.status_code == 200, path
        assert 'href="/queues/static/ui.css"' in answer.text
    assert site.post(f"/queues/queues/{queue.name}/acts/queue.pause").status_code == 200
    assert queue.limits().paused


urlpatterns = [django_path("shop/", lambda _: HttpResponse("the shop"))]  # of the application in Django


# What it costs Redis

MOST = {
    "/": 8,
    "/workers": 8,
    "/schedules": 4,
    "/jobs": 4,
    "/audit": 4,
    "/dead": 4,
    "/queue": 12,
}  # round trips of a page of one queue
SEARCHES = 16  # and of those that look further where there is more, within a budget: here what is looked at is little


@pytest.mark.usefixtures("_always_asked")
def test_pages_cost_the_same_however_much_waits(queue: Queue, client: redis.Redis) -> None:
    full = filled(queue, client)
    site, paths = browser(queue, "view", readonly=True), [path for path in full.paths if not path.startswith("/redis")]
    for _ in range(2):  # connections and scripts are there then
        [site.get(path) for path in paths]
    few = {path: counted(client, lambda path=path: site.get(path)) for path in paths}  # type: ignore[misc]
    queue.enqueue_many(PyTask("m:plain", (number,)) for number in range(5000))
    queue.enqueue_many(PyTask("m:later", (number,), after=3600) for number in range(500))
    queue.enqueue_many(PyTask("m:grouped", (number,), group=f"g{number}") for number in range(500))
    many = {path: counted(client, lambda path=path: site.get(path)) for path in paths}  # type: ignore[misc]
    for path in paths:
        commands, pieces = few[path]
        print(f"{path:60} {pieces:3} round trips, {commands.total():3} commands; {many[path][1]:3}, {many[path][0].total():3}")
        bounded = {"hgetall"} if path.startswith("/metrics") else set()  # statistics are of at most 200 functions and 60 rows
        assert not (UNBOUNDED - bounded) & {*commands, *many[path][0]}, (path, commands)
        if not path.startswith("/task"):  # a search looks further where there is more, within its budget
            assert many[path][1] <= pieces + 2, (path, many[path])
        assert pieces <= MOST.get(path if path != paths[-1] else "/queue", SEARCHES), (path, commands)


def test_a_search_through_many_groups_takes_few_round_trips(queue: Queue, client: redis.Redis) -> None:
    for number in range(2000):
        queue.enqueue(PyTask("m:grouped", (number,), group=f"g{number}"))
    site = browser(queue, "view", readonly=True)
    site.get("/")
    commands, trips = counted(client, lambda: site.get("/tasks?q=fn:other"))
    assert "0 found. Looked at 2,000" in site.get("/tasks?q=fn:other").text
    assert commands["lrange"] > 1900
    assert trips < 120


def test_a_hundred_viewers_cost_what_one_does(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.web.site._FRESH", 60)
    filled(queue, client)
    site = browser(queue, "view", readonly=True)
    site.get("/workers")
    one, _ = counted(client, lambda: site.get("/"))
    assert one
    hundred, _ = counted(client, lambda: [site.get("/") for _ in range(100)])
    assert not hundred
    operator, _ = counted(client, lambda: site.get("/?other"))
    assert operator


def test_assets_are_small() -> None:
    static = files("delayed.web") / "static"
    sizes = {each.name: len(gzip.compress(each.read_bytes())) for each in static.iterdir()}
    assert {"ui.css", "ui.js", "icon.svg"} <= set(sizes)
    assert sum(sizes.values()) < 60 << 10


# Live


class Stream:
    """Somebody who looks at a page, and is told when it changes."""

    def __init__(self, site: TestClient, page: str) -> None:
        shown = html.unescape(re.findall(r'data-live="([^"]+)"', site.get(page).text)[0])
        path, _, query = shown.partition("?")
        self._scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "method": "GET", "path": unquote(path),
            "root_path": "", "query_string": query.encode(), "headers": [(b"host", b"testserver")], "scheme": "http",
            "server": ("testserver", 80), "client": ("testclient", 50000), "http_version": "1.1",
        }  # fmt: skip
        self.events = asyncio.Queue[bytes]()
        self._app: Any = site.app

    async def __aenter__(self) -> "Stream":
        self._task = asyncio.create_task(self._app(self._scope, asyncio.Event().wait, self._send))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self, message: dict[str, Any]) -> None:
        if b"event: changed" in message.get("body", b""):
            self.events.put_nowait(message["body"])

    async def told(self) -> None:
        await asyncio.wait_for(self.events.get(), 60)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pages that are looked at, which is done often; nobody is told of anything but changes."""
    found, look = list[str](), Site._content

    async def counted(site: Site, scope: Any, page: str) -> bytes:
        content = await look(site, scope, page)
        found.append(page)
        return content

    monkeypatch.setattr(Site, "_content", counted)
    monkeypatch.setattr("delayed.web.live._PAUSE", 0.01)
    monkeypatch.setattr("delayed.web.live._SHARE", 0.5)
    monkeypatch.setattr("delayed.web.live._SILENCE", 3600)
    return found


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.01)


def _progress(queue: Queue, full: Full) -> None:
    queue.store.call("HSET", queue.keys.task(full.task), "progress", msgpack.packb([5, 7, "half"]))


def _happens(queue: Queue, _: Full) -> None:
    queue.store.call("XADD", queue.keys.history, "*", "batch", packed("h:2", {}, [event(now(), "lost", "m:f")], 0.0))


CHANGES: dict[str, Callable[[Queue, Full], object]] = {  # what no number of the overview tells
    "/schedules": lambda queue, _: Schedules(queue).pause("nightly go"),
    "/flow": lambda queue, full: Run(queue, full.flow).signal("go"),
    "/task": _progress,
    "/history": _happens,
    "/audit": lambda queue, _: write(queue, Actor("ada", "here"), "queue.pause", "what", result="done"),
    "/jobs": lambda queue, _: create(queue, Actor("a", "b"), "queue.pause", {}, total=0, newest="", moment=None),
    "/tasks?q=fn:m:later": lambda queue, full: move(queue, next(search(queue, Wanted(task="m:later"))), now() + 900),
    "/": lambda queue, _: queue.enqueue(PyTask("m:f")),
}


@pytest.mark.parametrize("page", CHANGES)
async def test_who_looks_at_a_page_is_told_of_what_changes_on_it(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, looks: list[str], page: str
) -> None:
    full = await asyncio.to_thread(filled, queue, client)
    below = f"/queues/{queue.name}"
    named = {"/flow": f"{below}/flows/{full.flow}", "/task": f"/task/{full.task}", "/history": f"{below}/history"}
    site, path = browser(queue, readonly=True), named.get(page, page)
    monkeypatch.setattr("delayed.web.site._FRESH", 60)
    async with Stream(site, path) as stream:
        await stream.told()  # what was before is not known
        before = (await asyncio.to_thread(site.get, path)).text
        count = len(looks)
        await until(lambda: len(looks) > count + 3)
        assert stream.events.empty()  # while nothing happens
        await asyncio.to_thread(CHANGES[page], queue, full)
        await stream.told()
        assert set(looks) == {path}
        assert (await asyncio.to_thread(site.get, path)).text != before


async def test_a_page_that_was_looked_at_is_not_read_again(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, looks: list[str]
) -> None:
    """Whoever asks for it after `changed` gets what the look has seen."""
    monkeypatch.setattr("delayed.web.live._PAUSE", 3600)
    monkeypatch.setattr("delayed.web.site._FRESH", 3600)
    site = browser(queue, readonly=True)
    async with Stream(site, "/workers") as stream:
        await stream.told()
        commands, _ = await asyncio.to_thread(counted, client, lambda: [site.get("/workers") for _ in range(10)])
        assert not commands
        assert looks == ["/workers"]


async def test_pages_of_odd_names_below_a_prefix_are_followed(queue: Queue, client: redis.Redis, looks: list[str]) -> None:
    other = Queue(f"{queue.name} a 1%?x#ä&+\n", client)
    site, path = browser(other, prefix="/ops/ui"), f"/ops/ui/queues/{part(other.name)}?x=%C3%A4&y=a+b"
    async with Stream(site, path) as stream:
        await stream.told()
        await asyncio.to_thread(other.enqueue, PyTask("m:f"))
        await stream.told()
        assert "m:f" in (await asyncio.to_thread(site.get, path)).text
    client.delete(*client.keys(f"{queue.name}?*"))


async def test_a_stream_is_none_of_streams_and_of_no_measures(queue: Queue, looks: list[str]) -> None:
    site = browser(queue)
    site_of = Stream(site, "/redis")
    async with site_of as stream:
        await until(lambda: len(looks) > 3)
        await stream.told()
        assert stream.events.empty()
        for page in ("/live", "%2Flive", "/live?page=/live"):
            stream._scope["query_string"] = f"page={quote(page)}".encode()
            async with stream as again:
                count = len(looks)
                await until(lambda count=count: len(looks) > count + 3)  # type: ignore[misc]
                assert again.events.qsize() <= 1
                await until(lambda: not again.events.empty())
                again.events.get_nowait()


async def test_one_look_for_all_and_none_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.web.live._PAUSE", 0.01)
    looks: list[int] = []

    async def look() -> int:
        looks.append(1)
        return len(looks) // 20  # every twentieth is a change

    live = Live()
    streams = [live.changes("page", look) for _ in range(100)]
    for stream in streams:
        await anext(stream)
    await asyncio.gather(*(anext(stream) for stream in streams for _ in "a"))
    assert len(looks) < 50
    task = live._pages["page"].task
    for stream in streams:
        await stream.aclose()
    assert task is not None
    await task
    assert not live._pages


async def test_one_page_is_looked_at_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.web.live._PAUSE", 0.0)
    busy, most, seen = list[int](), list[int](), Counter[int]()

    def look(page: int) -> Callable[[], Any]:
        async def looked() -> int:
            busy.append(page)
            most.append(len(busy))
            await asyncio.sleep(0)
            busy.remove(page)
            seen[page] += 1
            return seen[page]

        return looked

    live = Live()
    streams = [live.changes(page, look(page)) for page in range(10)]
    for stream in streams:
        await anext(stream)
        await anext(stream)
    await until(lambda: len(seen) == 10 and min(seen.values()) > 3)
    assert set(most) == {1}
    for stream in streams:
        await stream.aclose()
    await until(lambda: not live._pages)


async def test_a_look_that_fails_is_no_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("delayed.web.live._PAUSE", 0.0)
    answers: list[object] = [1, ValueError("away"), 2]

    async def look() -> object:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    stream = Live().changes("page", look)
    for _ in range(4):  # the beginning, and each change
        await asyncio.wait_for(anext(stream), 60)
    assert "a page cannot be kept up to date: ValueError: away" in caplog.text
    await stream.aclose()


def test_a_change_is_seen_at_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page that is asked for after somebody has acted is none from before."""
    monkeypatch.setattr("delayed.web.site._FRESH", 60)
    site = Site(queue.conn, PAGES, readonly=True, environment="", names=[queue.name])
    client = TestClient(site.application(web.everyone()))
    before = client.get("/").text
    queue.enqueue(PyTask("m:f"))
    assert client.get("/").text == before
    site.live.acted = float("inf")
    assert client.get("/").text != before


def test_who_has_acted_sees_no_page_from_before(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.web.site._FRESH", 60)
    site = browser(queue)
    assert "paused" not in site.get(f"/queues/{queue.name}").text
    assert site.post(f"/queues/{queue.name}/acts/queue.pause").status_code == 200
    assert "paused" in site.get(f"/queues/{queue.name}").text


def test_a_workflow_of_many_nodes_is_drawn(queue: Queue) -> None:
    flow = Flow(queue, "large")
    flow.add(PyTask("m:sum"), after=flow.add(group(PyTask("m:part", (number,)) for number in range(5000))))
    run = flow.submit()
    text = browser(queue).get(f"/queues/{queue.name}/flows/{run.id}").text
    assert "(5,000)" in text
    assert len(text) < 20_000
    run.cancel()


def test_an_id_leads_to_its_task_wherever_it_is(queue: Queue, client: redis.Redis) -> None:
    """What happened to task X: one search, from any page, whether it waits, has ended, or nothing but the history knows."""
    site, unkept = browser(queue), new_id()
    batch = packed("h:1", {}, [event(now() - 60, "succeeded", "tasks:noop", unkept)], 0.0)
    client.xadd(queue.keys.history, {"batch": batch})
    waiting = queue.enqueue(PyTask("m:later", after=3600, track=True)).id
    tracked = queue.enqueue(PyTask("builtins:str", (1,), track=True)).id
    burst(queue)
    flow = Flow(queue)
    flow.add(PyTask("m:f"))
    run = flow.submit()
    for identity, says in (
        (waiting, "scheduled"),
        (tracked, "succeeded"),
        (unkept, "no state of it is kept"),
        (run.id, "Graph"),
        (node_id(run.id[:10], 0), "a node of the workflow"),
    ):
        reply = site.get("/tasks", params={"q": f" {identity} "}, follow_redirects=True)
        assert reply.status_code == 200, identity
        assert says in reply.text
        assert "looked at" not in reply.text.lower()
    assert "tasks:noop" in site.get(f"/task/{unkept}").text
    unknown = site.get("/tasks", params={"q": new_id()}, follow_redirects=True)
    assert unknown.status_code == 404
    assert "Nothing is known of it" in unknown.text
    assert f"/queues/{queue.name}/history?id=" in unknown.text
    no_id = site.get("/task/nope")
    assert no_id.status_code == 404
    assert "This is no id of a task: 16 letters" in no_id.text
    assert "delayed task show" not in no_id.text
    assert site.get("/tasks", params={"q": f"text:{unkept}"}).status_code == 200


def test_what_finds_nothing_says_where_it_has_looked(queue: Queue) -> None:
    site = browser(queue)
    assert "Nothing is overdue." in site.get("/tasks?q=overdue").text
    text = site.get("/tasks?q=xyz").text
    assert "Only what waits was looked at" in text
    assert "q=xyz%20state%3Adead" in text
    assert "Only what waits" not in site.get("/tasks?q=xyz+state:dead").text
    assert "There are none" in site.get(f"/queues/{queue.name}/dead").text
    assert "None of them fits" in site.get(f"/queues/{queue.name}/dead?text=x").text


def test_many_causes_are_counted_after_the_first(queue: Queue) -> None:
    for number in range(25):
        bury(queue, PyTask("m:f"), detail=f"ValueError: {chr(97 + number)}")
    text = browser(queue).get("/dead").text
    assert "5 more causes" in text
