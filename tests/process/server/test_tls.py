"""The server speaks TLS: HTTP and the text protocol, for clients that check its certificate."""

import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from delayed.redis.embedded import EmbeddedRedis
from delayed.remote import Remote, ServerAway
from delayed.task.task import PyTask
from tests.process.server.test_protocols import text_port
from tests.support.api import port_of
from tests.support.processes import Fleet
from tests.support.tls import CERTIFICATE


class Ports(NamedTuple):
    """Of a server."""

    http: int
    text: int


@pytest.fixture(scope="module")
def ports(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    key = CERTIFICATE.with_name("key.pem")
    options = ("--tls-cert", str(CERTIFICATE), "--tls-key", str(key), "--text", "127.0.0.1:0", "--http", "127.0.0.1:0")
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        process = processes.delayed("server", *options).ready()
        yield Ports(port_of(process), text_port(process))


@pytest.fixture(scope="module")
def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


def test_https(ports: Ports, trusting: ssl.SSLContext, name: str) -> None:
    queue = Remote(f"https://127.0.0.1:{ports.http}", tls=trusting).queue(name)
    handle = queue.enqueue(PyTask("shop:pay", track=True))
    assert queue.enqueue_many(PyTask("shop:pay") for _ in range(1500)) == 1500
    assert handle.status().state == "queued"
    assert queue.len() == 1501


async def test_https_for_event_loops(ports: Ports, trusting: ssl.SSLContext, name: str) -> None:
    async with Remote(f"https://127.0.0.1:{ports.http}", tls=trusting).async_queue(name) as queue:
        await queue.enqueue(PyTask("shop:pay"))
        assert await queue.len() == 1


def test_who_does_not_trust_the_certificate_sends_nothing(ports: Ports, name: str) -> None:
    queue = Remote(f"https://127.0.0.1:{ports.http}", token="dq_secret", patience=0).queue(name)
    with pytest.raises(ServerAway, match="certificate verify failed") as refused:
        queue.enqueue(PyTask("shop:pay"))
    assert refused.value.__notes__ == ["nothing was sent"]


def test_what_is_no_tls_is_not_answered(ports: Ports, trusting: ssl.SSLContext, name: str) -> None:
    for port, said in ((ports.http, b"GET /v1 HTTP/1.1\r\nhost: x\r\n\r\n"), (ports.text, b"1 enq q 1 a\n")):
        with socket.create_connection(("127.0.0.1", port), 60) as plain:
            plain.sendall(said)
            heard = b""
            try:
                while more := plain.recv(4096):
                    heard += more
            except ConnectionError:
                pass
        assert b"HTTP" not in heard
        assert b"enqed" not in heard
    assert Remote(f"https://127.0.0.1:{ports.http}", tls=trusting).queue(name).len() == 0  # it goes on


def test_the_text_protocol(ports: Ports, trusting: ssl.SSLContext, name: str) -> None:
    plain = socket.create_connection(("127.0.0.1", ports.text), 60)
    with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as connection, connection.makefile("rb") as heard:
        connection.sendall(b"1 HELLO 1\n2 enq %b 5 hello\n" % name.encode())
        assert [heard.readline().split()[1] for _ in range(2)] == [b"hello", b"enqed"]
