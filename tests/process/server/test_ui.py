"""The web UI and the metrics on the server's own port."""

import base64
import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from delayed.dead_letters.letter import dead_letters
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.decode import decode
from delayed.task.task import PyTask
from delayed.workflow import Flow
from tests.conftest import burst
from tests.process.server.test_access import token
from tests.support.api import Answer, Api, serve
from tests.support.processes import Fleet
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def api(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server without tokens."""
    with Fleet(server.url, tmp_path_factory.mktemp("open")) as processes:
        yield serve(processes, "--ui")[1]


def test_this_machine_sees_the_pages(api: Api, queue: Queue, name: str) -> None:
    queue.enqueue(PyTask("tasks:fail", ("no",)))
    burst(queue)
    page = api.call("GET", f"/ui/queues/{name}")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'href="/ui/' in page.body
    assert api.call("GET", "/ui/static/ui.css").status == 200
    assert api.call("GET", "/ui").headers["location"].endswith("/ui/")
    assert api.call("GET", "/ui/", headers={"sec-fetch-site": "cross-site"}).status == 401
    assert api.call("POST", "/ui/act", b"", {"origin": "https://evil.example"}).status == 401


def test_metrics(api: Api, queue: Queue, name: str, fleet: Fleet) -> None:
    fleet.worker(name)
    eventually(lambda: name.encode() in api.call("GET", "/metrics").body)
    answer = api.call("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.body.startswith(b"# HELP delayed_")


def test_a_stop_ends_pages_that_stay_up_to_date(fleet: Fleet) -> None:
    process, api = serve(fleet, "--ui")
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
    connection.request("GET", "/ui/live")
    answer = connection.getresponse()
    assert answer.readline().startswith(b"retry")
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    answer.read()
    connection.close()
    assert "Traceback" not in process.log.read_text()


def test_tokens_say_who_may_see_what(tmp_path_factory: pytest.TempPathFactory) -> None:
    with EmbeddedRedis() as redis, Fleet(redis.url, tmp_path_factory.mktemp("guarded")) as processes:
        reader = token(redis.url, "reader", "--may", "read")
        operator = token(redis.url, "operator", "--may", "read,operate")
        some = token(redis.url, "some", "--may", "read", "--queues", "web:*")
        producer = token(redis.url, "producer", "--may", "enqueue")
        _, api = serve(processes, "--ui")

        def seen(secret: str, path: str = "/ui/") -> Answer:
            basic = base64.b64encode(f"me:{secret}".encode()).decode()
            return api.call("GET", path, headers={"authorization": f"Basic {basic}"})

        refused = api.call("GET", "/ui/")
        assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Basic realm="delayed", charset="UTF-8"')
        assert seen("dq_nonsense").status == 401
        assert [seen(each).status for each in (reader, operator, some, producer)] == [200, 200, 200, 403]
        assert Api(api.port, operator).call("GET", "/ui/").status == 200
        assert [Api(api.port, each).call("GET", "/metrics").status for each in (reader, some, producer)] == [200, 200, 403]
        assert api.call("GET", "/metrics").status == 401
        Queue("web:1", redis.url).enqueue(PyTask("shop:pay"))
        processes.worker("web:1", "other")
        eventually(lambda: b'"other"' in Api(api.port, reader).call("GET", "/metrics").body)
        eventually(lambda: b'"web:1"' in Api(api.port, some).call("GET", "/metrics").body)
        assert b'"other"' not in Api(api.port, some).call("GET", "/metrics").body
        eventually(lambda: b"/queues/other" in seen(reader).body)
        eventually(lambda: b"/queues/web%3A1" in seen(some).body)
        assert b"/queues/other" not in seen(some).body
        assert seen(some, "/ui/queues/other").status == 404


def test_acts_need_what_they_need_over_http(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An edited task is a new call: for who may enqueue its function. A signal is for who may enqueue."""
    with EmbeddedRedis() as redis, Fleet(redis.url, tmp_path_factory.mktemp("rights")) as processes:
        queue = Queue("web", redis.url)
        queue.enqueue(PyTask("tasks:fail", ("no",)))
        burst(queue)
        (letter,) = dead_letters(queue)
        flow = Flow(queue)
        flow.wait("go")
        run = flow.submit()
        said = {
            "operator": ("read,operate",),
            "other": ("read,operate,enqueue", "--functions", "shop:*"),
            "producer": ("read,enqueue",),
            "editor": ("read,operate,enqueue", "--functions", "tasks:*"),
        }
        tokens = {name: token(redis.url, name, "--may", *words) for name, words in said.items()}
        port = serve(processes, "--ui")[1].port

        def acts(act: str, form: dict[str, str]) -> dict[str, int]:
            headers = {"content-type": "application/x-www-form-urlencoded"}
            where = f"/ui/queues/web/acts/{act}"
            return {
                name: Api(port, each).call("POST", where, urlencode(form).encode(), headers).status
                for name, each in tokens.items()
            }

        def offered(path: str, words: bytes) -> list[str]:
            return [
                name for name, each in tokens.items() if words in Api(port, each).call("GET", f"/ui/queues/web/{path}").body
            ]

        eventually(lambda: Api(port).call("GET", "/ui/").status == 401)
        assert offered(f"dead/{letter.id}", b"Edit and retry") == ["editor"]
        assert offered(f"dead/{letter.id}", b"acts/dead.retry") == ["operator", "other", "editor"]
        edit = acts("dead.edit", {"id": letter.id, "args": "[5]"})
        assert edit == {"operator": 403, "other": 403, "producer": 403, "editor": 200}
        assert decode(queue.call("LINDEX", "web", 0)).args == [5]
        assert offered(f"flows/{run.id}", b"acts/flow.signal") == ["other", "producer", "editor"]
        given = acts("flow.signal", {"id": run.id, "name": "other"})
        assert given == {"operator": 403, "other": 200, "producer": 200, "editor": 200}
        assert acts("queue.pause", {}) == {"operator": 200, "other": 200, "producer": 403, "editor": 200}


def test_what_is_missing_is_said(server: EmbeddedRedis) -> None:
    hide = "import sys; sys.modules['jinja2'] = None; from delayed.cli.main import main; main()"
    hide = hide.replace("sys.modules['jinja2'] = None", "import importlib.util as u; f = u.find_spec; "
                        "u.find_spec = lambda name, *rest: None if name == 'jinja2' else f(name, *rest)")  # fmt: skip
    command = [sys.executable, "-c", hide, "server", "--http", "127.0.0.1:0", "--ui", "--redis", server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the web UI needs jinja2: pip install 'delayedq[ui]'" in done.stderr
