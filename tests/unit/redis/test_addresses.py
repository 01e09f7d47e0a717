"""Where Redis is: the vectors that Go reads as well, the clients that come of them, and that no password is shown."""

import json
import ssl
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from click.testing import CliRunner
from redis.connection import parse_url

from delayed.cli.main import main
from delayed.errors import ConfigurationError
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.address import Address, read
from delayed.redis.connect import address, connect, connect_async
from tests import ROOT

VECTORS = json.loads((ROOT / "tests" / "vectors" / "addresses.json").read_text())
ACCEPTED = [pytest.param(vector["url"], vector["means"], id=vector["url"]) for vector in VECTORS["accepted"]]
REFUSED = [pytest.param(vector["url"], vector["says"], vector["secret"], id=vector["url"]) for vector in VECTORS["refused"]]
MAKERS: list[Callable[[str], object]] = [
    connect,
    connect_async,
    lambda url: Queue("q", url),
    lambda url: AsyncQueue("q", url),
]
AT_REST = [  # of which a client can be made without certificates, or a cluster that answers
    each
    for each in ACCEPTED
    if "/etc/" not in str(each.values) and "/ca.pem" not in str(each.values) and "cluster" not in str(each.values)
]


@pytest.mark.parametrize(("url", "means"), ACCEPTED)
def test_what_an_address_means(url: str, means: dict[str, Any]) -> None:
    hosts = tuple((host, port) for host, port in means["hosts"])
    assert read(url) == Address(**{**means, "hosts": hosts})
    if means["password"]:
        assert means["password"] not in repr(read(url))


@pytest.mark.parametrize(("url", "says", "secret"), REFUSED)
def test_what_is_no_address_is_refused_and_shows_no_password(url: str, says: str, secret: str) -> None:
    for make in MAKERS:
        with pytest.raises(ConfigurationError, match="write for example redis://localhost:6379/0") as refused:
            make(url)
        assert says in str(refused.value)
        assert refused.value.__cause__ is refused.value.__context__ is None
        if secret:
            assert secret not in "".join(traceback.format_exception_only(refused.value))


@pytest.mark.parametrize("variable", ["DELAYED_REDIS_URL", "REDIS_URL"])
def test_the_command_line_shows_none(variable: str) -> None:
    for url in ("redis://user:hunter2/1@localhost:6379/0", "redis+sentinel://:hunter2@localhost:26379"):
        for command in (["info", "q"], ["worker", "q", "--allow-any"], ["enqueue", "q", "m:f"]):
            done = CliRunner(env={variable: url}).invoke(main, command)
            assert done.exit_code == 1
            assert "does not say where Redis is" in done.output
            assert "hunter2" not in done.output + repr(done.exception)


@pytest.mark.parametrize(("url", "means"), AT_REST)
def test_a_client_gets_what_the_address_says(url: str, means: dict[str, Any]) -> None:
    for client in (connect(url), connect_async(url)):
        pool: Any = client.connection_pool  # type: ignore[union-attr]
        given = pool.connection_kwargs
        assert (given["db"], given.get("username"), given.get("password")) == tuple(
            means[k] for k in ("db", "username", "password")
        )
        assert pool.max_connections == means["options"].get("max_connections", 50)
        assert pool.timeout == means["options"].get("timeout", 20)
        assert type(pool).__mro__.count(redis.BlockingConnectionPool) + type(pool).__mro__.count(
            redis.asyncio.BlockingConnectionPool
        )
        made = pool.make_connection()
        for name in ("socket_timeout", "socket_connect_timeout", "client_name", "health_check_interval"):
            if name in means["options"]:
                assert getattr(made, name) == means["options"][name]
        if means["kind"] == "sentinel":
            sentinels = [each.connection_pool for each in pool.sentinel_manager.sentinels]
            assert [[each.connection_kwargs["host"], each.connection_kwargs["port"]] for each in sentinels] == means["hosts"]
            for each in sentinels:
                kwargs = each.connection_kwargs
                for name in ("username", "password"):
                    assert kwargs.get(name) == means["options"].get(f"sentinel_{name}")
                assert issubclass(each.connection_class, redis.SSLConnection | redis.asyncio.SSLConnection) == means["tls"]
        elif means["kind"] == "server":
            assert [[given["host"], given["port"]]] == means["hosts"]
        else:
            assert given["path"] == means["path"]
        assert issubclass(pool.connection_class, redis.SSLConnection | redis.asyncio.SSLConnection) == means["tls"]
        assert means["password"] is None or means["password"] not in address(client)


OURS = ("username", "password", "max_connections", "timeout", "socket_read_size")


@pytest.mark.parametrize(("url", "means"), [each for each in ACCEPTED if each.values[1]["kind"] in ("server", "unix")])  # type: ignore[index]
def test_redis_py_reads_the_same(url: str, means: dict[str, Any]) -> None:
    """So whoever has an address for it has one for us."""
    if "%25" in url.partition("]")[0] or url.startswith("REDIS"):
        return  # it does not know zones, nor schemes in capitals
    theirs = parse_url(url)
    assert theirs.get("host", "localhost") == (means["hosts"][0][0] if means["hosts"] else "localhost")
    assert theirs.get("path") == means["path"]
    assert (theirs.get("db", 0), theirs.get("username"), theirs.get("password")) == tuple(
        means[name] for name in ("db", "username", "password")
    )
    converted = {name: value for name, value in means["options"].items() if name not in OURS}
    if "decode_responses" in converted:  # for which it takes any text
        assert theirs["decode_responses"] == "True"
        del converted["decode_responses"]
    assert {name: theirs[name] for name in converted} == converted


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://bob:x@[::1]:7000/3", "redis://bob@[::1]:7000/3"),
        ("rediss+sentinel://bob:x@h1,[::1]:7/main/1?sentinel_password=y", "rediss+sentinel://bob@h1:26379,[::1]:7/main/1"),
        ("unix://bob:x@/a/b.sock?db=2", "unix://bob@/a/b.sock?db=2"),
        ("rediss://h?password=x", "rediss://h:6379/0"),
    ],
)
def test_an_address_is_shown_without_password(url: str, shown: str) -> None:
    assert [address(connect(url)), address(connect_async(url))] == [shown, shown]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("ssl_ca_certs=/no/such/file", "ssl_ca_certs in the URL of Redis: '/no/such/file' is not there"),
        ("ssl_keyfile=/no/such/file", "ssl_keyfile in the URL"),
        (f"ssl_ca_certs={__file__}", "the ssl_… options in the URL of Redis cannot be used"),
        (f"ssl_certfile={__file__}&ssl_password=hunter2", "cannot be used"),
        ("ssl_ca_data=nonsense", "cannot be used"),
        ("ssl_ciphers=NONE-SUCH", "cannot be used"),
    ],
)
def test_certificates_that_cannot_be_used_are_said_at_once(options: str, says: str) -> None:
    for make in MAKERS:
        with pytest.raises(ConfigurationError) as refused:
            make(f"rediss://h?{options}")
        assert says in str(refused.value)
        assert "hunter2" not in str(refused.value)


def test_tls_is_as_strict_as_it_is_said() -> None:
    strict: Any = connect("rediss://h?ssl_min_version=772")
    loose: Any = connect("rediss://h?ssl_cert_reqs=none")
    made, lax = strict.connection_pool.make_connection(), loose.connection_pool.make_connection()
    assert (made.cert_reqs, made.check_hostname, made.ssl_min_version) == (ssl.CERT_REQUIRED, True, ssl.TLSVersion.TLSv1_3)
    assert (lax.cert_reqs, lax.check_hostname) == (ssl.CERT_NONE, False)
