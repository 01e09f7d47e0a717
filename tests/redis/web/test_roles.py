"""The whole application: who may not act changes nothing by any of its routes, and what acts is seen only by those who may."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
import redis
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from delayed import web
from delayed.dead_letters.search import Search
from delayed.dead_letters.search import search as dead_search
from delayed.errors import ConfigurationError
from delayed.ops.actions import pause_queue
from delayed.ops.acts import ACTS, may
from delayed.ops.audit import Actor
from delayed.ops.causes import causes
from delayed.ops.dead_actions import retry_edited
from delayed.ops.job_records import jobs
from delayed.ops.jobs import Runner, begin
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted, search
from delayed.task.decode import headers_of
from delayed.task.edit import with_retry
from delayed.task.headers import text_in
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.redis.ops.test_audit import letters
from tests.redis.ops.test_waiting import fill
from tests.redis.web.browsing import filled
from tests.redis.web.test_acting import SAME, without_ttl
from tests.redis.web.test_forms import Forms
from tests.support.command import run
from tests.support.letters import bury
from tests.support.secrets import tell

PATHS = {"act": "queue.pause", "job": "x", "task": "0123456789abcdef", "letter": "1-1", "flow": "0123456789abcdef"}


def opened(queue: Queue, role: str, **options: Any) -> TestClient:
    options = {"queues": [queue.name], **options}
    application = web.app(queue.conn, access=web.everyone(role, "ada"), **options)
    return TestClient(application, follow_redirects=False)


def addresses(client: TestClient, queue: Queue) -> list[str]:
    """One for each route."""
    routes = client.app._app.routes  # type: ignore[attr-defined]  # what the guard guards
    found = [
        route.path + ("/ui.css" if isinstance(route, Mount) else "") for route in routes if isinstance(route, Route | Mount)
    ]
    values = {**PATHS, "queue:path": queue.name, "queue": queue.name}
    return [re.sub(r"\{([^}]+)\}", lambda match: values[match[1]], path) for path in found]


def pages_of(client: TestClient, queue: Queue, ids: dict[str, str]) -> list[str]:
    """The pages that have acts."""
    name = queue.name
    paths = [f"/queues/{name}", "/dead", f"/queues/{name}/dead", f"/queues/{name}/dead/{ids['letter']}", "/schedules"]
    paths += [f"/queues/{name}/flows/{ids['flow']}", f"/task/{ids['task']}", f"/tasks?q=queue:{name}"]
    paths += [f"/tasks?q=queue:{name}+state:dead"]
    shown = {path: client.get(path) for path in paths}
    assert {path: reply.status_code for path, reply in shown.items()} == dict.fromkeys(paths, 200)
    return [reply.text for reply in shown.values()]


@pytest.mark.parametrize(
    ("role", "readonly", "headers"),
    [
        ("view", False, SAME),
        ("admin", True, SAME),
        ("admin", False, {"sec-fetch-site": "cross-site"}),
        ("admin", False, {"sec-fetch-site": "same-site"}),
        ("admin", False, {"sec-fetch-site": "none"}),
        ("admin", False, {"origin": "https://evil.example"}),
        ("admin", False, {"origin": "null"}),
    ],
)
def test_who_may_not_act_changes_nothing_by_any_post(
    queue: Queue,
    client: redis.Redis,
    full: dict[str, dict[str, Any]],
    role: str,
    readonly: bool,
    headers: dict[str, str],
) -> None:
    client.delete(queue.keys.bulk_jobs)  # the application works on jobs
    browser, before = opened(queue, role, readonly=readonly), without_ttl(client, queue.name)
    for path in addresses(browser, queue):
        assert browser.post(path, data={"sure": "yes"}, headers=headers).status_code in (403, 405), path
    for act, fields in full.items():
        path = f"/queues/{queue.name}/acts/{act}"
        assert browser.post(path, data={**fields, "sure": "yes"}, headers=headers).status_code == 403, act
    assert without_ttl(client, queue.name) == before


@pytest.mark.slow
@pytest.mark.parametrize("general", ["view", "operate", ""])
@pytest.mark.parametrize("role", ["view", "operate", "admin"])
def test_a_role_in_some_queues_is_one_for_all_acts_there_and_none_elsewhere(
    queue: Queue,
    client: redis.Redis,
    full: dict[str, dict[str, Any]],
    role: str,
    general: str,
) -> None:
    """Every act, as every role that is meant for this queue, and as the one for others."""
    client.delete(queue.keys.bulk_jobs)
    elsewhere = opened(queue, ",".join(filter(None, [general, f"{role}:another:*"])))
    before = without_ttl(client, queue.name)
    refused = {act for act in full if not may(general, ACTS[act].role)}
    for act in refused:
        path = f"/queues/{queue.name}/acts/{act}"
        assert elsewhere.post(path, data={**full[act], "sure": "yes"}, headers=SAME).status_code == 403, act
    assert without_ttl(client, queue.name) == before
    there = opened(queue, ",".join(filter(None, [general, f"{role}:{queue.name[:-1]}?"])))
    allowed = {act for act in full if may(role, ACTS[act].role) or may(general, ACTS[act].role)}
    for act, fields in full.items():
        reply = there.post(f"/queues/{queue.name}/acts/{act}", data={**fields, "sure": "yes"}, headers=SAME)
        assert (reply.status_code == 403) == (act not in allowed), act


def test_who_has_no_role_in_a_queue_does_not_see_it(queue: Queue, client: redis.Redis) -> None:
    other = Queue(f"{queue.name}-other", client)
    full, unseen = filled(queue, client), filled(other, client)
    pause_queue(other, Actor("ada", "here"))
    begin(other, Actor("ada", "here"), "dead.delete")
    site = opened(queue, f"admin:{queue.name}", queues=[queue.name, other.name], readonly=True)
    for path in [*full.paths, f"/tasks?q={quote('queue:' + queue.name)}", "/tasks?q=state:dead"]:
        reply = site.get(path)
        assert reply.status_code == 200, path
        assert other.name not in reply.text, path
    for path in unseen.paths:
        if other.name in path:
            reply = site.get(path)
            assert reply.status_code == 404, path
    assert site.get(f"/tasks?q={quote('queue:' + other.name)}").status_code == 404
    assert site.get(f"/task/{unseen.task}").status_code == 404
    client.delete(*client.keys(f"{other.name}*"))
    client.hdel("delayed:interests", other.name)


def test_arguments_are_for_those_who_shall_see_them(queue: Queue, client: redis.Redis) -> None:
    """Neither a page nor the answer of a search, nor a job with a filter, tells others of them."""
    (identity,) = bury(queue, PyTask("m:fails", ("canary4000",)))
    tracked = queue.enqueue(PyTask("m:fails", ("canary4000",), track=True)).id
    done = queue.enqueue(PyTask("builtins:str", ("canary4000",), result_ttl=60)).id
    burst(queue)
    (waiting,) = (queue.enqueue(PyTask("m:later", ("canary4000",), after=3600, track=True)).id for _ in "1")
    retry_edited(queue, Actor("ada", "here"), bury(queue, PyTask("m:f"))[0], args=["canary4000"])
    below, name = f"/queues/{queue.name}", quote(queue.name)
    paths = [
        below, f"{below}/dead", f"{below}/dead/{identity}", f"/task/{tracked}", f"/task/{done}?queue={name}",
        f"/task/{waiting}", f"/tasks?q=queue:{name}", f"/tasks?q=queue:{name}+state:dead", "/tasks", "/dead", "/", "/audit",
        f"{below}/history",
    ]  # fmt: skip
    seeing = opened(queue, f"view,admin:{queue.name}", arguments="admin")
    assert sum("canary4000" in seeing.get(path).text for path in paths) >= 7
    sites = [opened(queue, role, arguments="admin") for role in ("operate", f"operate,admin:another-{queue.name}")]
    for site in sites:
        for path in paths:
            text = site.get(path).text
            assert "canary4000" not in text, path
            assert b"canary4000".hex() not in text, path
    for site in sites:  # what they write themselves stands in the audit
        assert "Edit and retry" not in site.get(f"{below}/dead/{identity}").text
        assert "0 found" in site.get(f"/tasks?q=queue:{name}+canary4000").text
        assert "0 shown" in site.get(f"{below}/dead?text=canary4000").text
        form = {"id": identity, "args": "[5]"}
        assert site.post(f"{below}/acts/dead.edit", data=form, headers=SAME).status_code == 400
        form = {"matching": "1", "text": "canary4000"}
        assert site.post(f"{below}/acts/dead.retry", data=form, headers=SAME).status_code == 303
        work(queue)
        assert jobs(queue)[0].done == 0
    with pytest.raises(ConfigurationError, match="arguments"):
        opened(queue, "view", arguments="all")


def test_errors_are_for_those_who_shall_see_arguments(queue: Queue, client: redis.Redis) -> None:
    told, secret = tell(queue, client, "canary4000"), "canary4000"
    below, name, paths = f"/queues/{queue.name}", queue.name, told.paths(queue.name)
    seeing = opened(queue, f"view,admin:{queue.name}", arguments="admin")
    assert sum(secret in seeing.get(path).text for path in paths) >= 7
    seen = causes(queue).causes[0].id
    sites = [opened(queue, role, arguments="admin") for role in ("operate", f"operate,admin:another-{queue.name}")]
    for site in sites:
        for path in paths:
            assert secret not in site.get(path).text, path
        assert "ValueError" in site.get(f"{below}/dead/{told.letter}").text
        for words in (secret, f"state:dead error:{secret}", f"state:dead {secret}"):
            assert "0 found" in site.get("/tasks", params={"q": f"queue:{name} {words}"}).text
        for filtered in (f"dead?error={secret}", f"dead?cause={seen}", f"history?text={secret}"):
            assert "0 shown" in site.get(f"{below}/{filtered}").text
    for site in sites:  # what they write themselves stands in the audit
        assert site.post(f"{below}/acts/dead.retry", data={"matching": "1", "error": secret}, headers=SAME).status_code == 303
        work(queue)
        assert jobs(queue)[0].done == 0


def test_roles_that_are_none(queue: Queue) -> None:
    for role in ("", "root", "view,", "operate:", "view,root:web:*", "web:*"):
        with pytest.raises(ConfigurationError, match="a role is one of"):
            web.Access(role, "ada")
    access = web.Access("view,operate:web:*,admin:web:x*", "ada")
    found = {name: access.of(name) for name in ("mail", "web:a", "web:xy")}
    assert found == {"mail": "view", "web:a": "operate", "web:xy": "admin"}
    assert access.everywhere == "view"
    assert web.Access("operate:a,admin:b", "ada").everywhere == "operate"
    assert not web.Access("operate:a", "ada").of("b")


def test_forms_are_seen_by_those_who_may_use_them_and_work(
    queue: Queue,
    client: redis.Redis,
    full: dict[str, dict[str, Any]],
) -> None:
    client.delete(queue.keys.bulk_jobs)
    ids = {"letter": full["dead.retry"]["id"], "flow": full["flow.cancel"]["id"], "task": full["task.run"]["id"]}
    seen: dict[str, set[str]] = {}
    for role in ("view", "operate", "admin"):
        texts = pages_of(opened(queue, role), queue, ids)
        seen[role] = {button.rpartition("/")[2] for text in texts for form in _posts(text) for button in form["buttons"]}
    assert not seen["view"]
    assert seen["operate"] == {
        "queue.pause", "queue.limit", "dead.retry", "dead.edit", "task.cancel", "task.run", "task.move", "flow.cancel",
        "flow.signal",
        "cron.pause", "cron.run",
    }  # fmt: skip
    assert seen["admin"] - seen["operate"] == {
        "queue.purge", "dead.delete", "task.delete", "cron.remove", "interest.remove",
    }  # fmt: skip
    assert not any("<form" in part for text in pages_of(opened(queue, "admin", readonly=True), queue, ids)
                   for part in re.findall(r'<form[^>]*method="post"', text))  # fmt: skip
    assert seen["admin"] < set(ACTS)


def _posts(text: str) -> list[dict[str, Any]]:
    posts = "".join(re.findall(r'<form[^>]*method="post".*?</form>', text, re.DOTALL))
    return Forms(posts).forms


def test_all_that_a_search_shows_are_retried(queue: Queue, client: redis.Redis) -> None:
    letters(queue, 20)
    letters(queue, 5, "other:g")
    browser = opened(queue, "operate")
    for words, count in (
        (f"queue:{queue.name} state:dead fn:other:*", 5),
        (f'queue:{queue.name} state:dead "ValueError: no"', 20),
    ):
        text = browser.get("/tasks", params={"q": words}).text
        (form,) = [each for each in _posts(text) if each["fields"].get("matching")]
        reply = browser.post(form["action"], data=form["fields"], headers=SAME)
        assert reply.status_code == 303
        work(queue)
        assert browser.get(reply.headers["location"]).status_code == 200
        assert jobs(queue)[0].done == count
    assert client.xlen(queue.keys.dead) == 0


@pytest.mark.parametrize("page", ["search", "letters"])
def test_the_click_for_a_message_finds_the_letters_that_the_command_finds(queue: Queue, page: str) -> None:
    bury(queue, PyTask("m:refused", ("refused",)), detail="ValueError: other")
    trace = 'Traceback (most recent call last):\n  File "m.py", line 1, in refused_by\n    f()\nValueError: no'
    expected = {*bury(queue, PyTask("m:f"), detail="OSError: Connection REFUSED"), *bury(queue, PyTask("m:g"), detail=trace)}
    assert {each.id for each in dead_search(queue, Search(error="refused"))} == expected
    site = opened(queue, "operate")
    if page == "search":
        text = site.get("/tasks", params={"q": f"queue:{queue.name} state:dead error:refused"}).text
    else:
        text = site.get(f"/queues/{queue.name}/dead", params={"error": "refused"}).text
        assert 'name="error" value="refused"' in text
    assert set(re.findall(r'name="id" value="([^"]+)"', text)) == expected
    (form,) = [each for each in _posts(text) if each["fields"].get("matching")]
    assert site.post(form["action"], data=form["fields"], headers=SAME).status_code == 303
    work(queue)
    assert jobs(queue)[0].done == 2
    assert [each.task for each in dead_search(queue)] == ["m:refused"]


def test_the_click_for_a_message_of_what_waits_again(queue: Queue) -> None:
    for number, said in enumerate(("OSError: Refused", "ValueError: other")):
        data = with_retry(PyTask("m:refused").serialize(), 1, {"attempt": 1, "error": said})
        queue.store.call("ZADD", queue.keys.scheduled, 1_900_000_000_000, f"{number:016}".encode() + data)
    site = opened(queue, "admin")
    text = site.get("/tasks", params={"q": f"queue:{queue.name} error:refused"}).text
    assert "1 found" in text
    form = next(each for each in _posts(text) if each["fields"].get("matching") and "task.delete" in each["action"])
    assert site.post(form["action"], data={**form["fields"], "sure": "yes"}, headers=SAME).status_code == 303
    work(queue)
    assert jobs(queue)[0].done == 1
    (left,) = search(queue)
    assert text_in(headers_of(left.data), "error") == "ValueError: other"


def test_a_worker_and_a_group_are_words_of_a_search(queue: Queue, client: redis.Redis, redis_url: str) -> None:
    some = bury(queue, PyTask("m:f", group="t-1"), PyTask("m:g", group="u"))
    letter = {"task": PyTask("m:h", group="t-2").serialize(), "reason": "failed", "detail": "no", "worker": "web1:7"}
    some.append(client.xadd(queue.keys.dead, letter).decode())  # type: ignore[arg-type, union-attr]
    queue.enqueue_many(PyTask("m:grouped", (number,), group=name) for number in range(500) for name in ("t-1", "u"))
    for number, worker in enumerate(("web1:7", "web2:7")):
        lease = queue.keys.lease(f"t{number}")
        client.hset(queue.keys.processing, lease, PyTask("m:runs", (worker,)).serialize())
        client.set(lease, worker, ex=600)
    site = opened(queue, "admin")

    def found(words: str, path: str = "/tasks") -> tuple[set[str], str, dict[str, dict[str, Any]]]:
        text = site.get(path, params={"q": f"queue:{queue.name} {words}"}).text
        forms = {each["action"].rpartition("/")[2]: each for each in _posts(text) if each["fields"].get("matching")}
        return set(re.findall(r'name="id" value="([^"]+)"', text)), text, forms

    assert found("state:dead group:t-*")[0] == {some[0], some[2]}
    assert found("state:dead worker:h")[0] == set(some[:2])
    assert found("state:dead worker:web*:7")[0] == {some[2]}
    running = found("worker:web1")[1]
    assert "web1:7" in running
    assert "web2:7" not in running
    (listed,) = json.loads(run("task", "list", queue.name, "--worker", "web1", "--json", "--redis", redis_url).output)
    assert listed["worker"] == "web1:7"
    client.delete(queue.keys.processing, *(queue.keys.lease(f"t{number}") for number in range(2)))
    form = found("state:dead worker:web1 group:t-*")[2]["dead.retry"]
    assert site.post(form["action"], data=form["fields"], headers=SAME).status_code == 303
    form = found("group:u where:group")[2]["task.delete"]
    assert site.post(form["action"], data={**form["fields"], "sure": "yes"}, headers=SAME).status_code == 303
    work(queue)
    assert {job.act for job in jobs(queue) if job.done} == {"dead.retry", "task.delete"}
    assert not list(search(queue, Wanted(where="group", group="u")))
    assert sum(each.task == "m:grouped" for each in search(queue, Wanted(group="t-1"))) == 500
    assert {each.task for each in dead_search(queue)} == {"m:f", "m:g"}


def test_what_a_search_shows_is_run_now_cancelled_or_removed(queue: Queue) -> None:
    fill(queue)
    browser = opened(queue, "admin")

    def acts(words: str) -> dict[str, dict[str, Any]]:
        text = browser.get("/tasks", params={"q": f"queue:{queue.name} {words}"}).text
        return {form["action"].rpartition("/")[2]: form for form in _posts(text) if form["fields"].get("matching")}

    assert set(acts("")) == {"task.cancel", "task.delete"}
    assert not acts("state:running")
    planned = acts("state:scheduled fn:m:*")
    assert set(planned) == {"task.cancel", "task.delete", "task.run"}
    assert browser.post(planned["task.run"]["action"], data=planned["task.run"]["fields"], headers=SAME).status_code == 303
    work(queue)
    assert (jobs(queue)[0].act, jobs(queue)[0].done) == ("task.run", 2)
    form = acts("fn:m:grouped where:group")["task.delete"]
    assert browser.post(form["action"], data={**form["fields"], "sure": "yes"}, headers=SAME).status_code == 303
    work(queue)
    assert not list(search(queue, Wanted(where="group")))


def test_other_queues_are_neither_shown_nor_acted_on(queue: Queue, client: redis.Redis) -> None:
    browser, other = opened(queue, "admin"), f"{queue.name}-other"
    assert browser.post(f"/queues/{other}/acts/queue.pause", headers=SAME).status_code == 400
    assert browser.get(f"/queues/{other}").status_code == 404
    assert not client.exists(f"{other}_control")
    pause_queue(Queue(other, client), Actor("ada", "here"))
    pause_queue(queue, Actor("ada", "here"))
    text = browser.get("/audit").text
    assert queue.name in text
    assert other not in text
    client.delete(f"{other}_control")


def test_the_address_of_a_form_is_no_page(queue: Queue) -> None:
    reply = opened(queue, "admin").get(f"/queues/{queue.name}/acts/dead.delete")
    assert reply.status_code == 405
    asked = opened(queue, "admin").post(f"/queues/{queue.name}/acts/queue.purge", headers=SAME).text
    assert "data-live" not in asked
    assert 'id="main"' not in reply.text  # with which a page would replace itself that shows what a form has done


def work(queue: Queue) -> None:
    while Runner(lambda: [queue]).step():
        pass


def test_hidden_arguments_are_on_no_page(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_HIDE_ARGUMENTS", "m:fails")
    (identity,) = bury(queue, PyTask("m:fails", ("canary4000",)))
    tracked = queue.enqueue(PyTask("m:fails", ("canary4000",), track=True)).id
    browser = opened(queue, "admin")
    for path in ("", "/dead", f"/dead/{identity}", "/dead?text=canary4000"):
        text = browser.get(f"/queues/{queue.name}{path}").text
        text = re.sub(r'data-live="[^"]*"', "", text)  # with the address, in which they have written it themselves
        assert "canary4000" not in text.replace('value="canary4000"', "").replace("text=canary4000", "")
        assert "Edit and retry" not in text
    for path in (f"/task/{tracked}", f"/tasks?q=queue:{queue.name}", f"/tasks?q=queue:{queue.name}+state:dead", "/dead", "/"):
        text = browser.get(path).text
        assert "canary4000" not in text
        assert b"canary4000".hex() not in text
    assert "(hidden)" in browser.get(f"/task/{tracked}").text
