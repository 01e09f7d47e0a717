"""`delayed ui`: serves the web UI."""

import contextlib
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ..base.address import host_and_port
from ..base.escape import escaped
from ..errors import ConfigurationError
from ..redis.connect import check_access, connect
from ..system.http import listening
from .common import connected

ROLES = ("view", "operate", "admin")
_BACKLOG = 2048  # connections that wait to be accepted
_LOCAL = ("127.0.0.1", "::1", "localhost")


@click.command()
@click.option("--listen", default="127.0.0.1:7678", show_default=True, metavar="HOST:PORT", help="Where it is served.")
@click.option("--queue", "queues", metavar="QUEUE", multiple=True, help="Show this queue, and no others but those named so.")
@click.option("--read-only", "readonly", is_flag=True, help="Nobody may act.")
@click.option("--environment", default="", metavar="NAME", help="What a badge on each page says: production.")
@click.option("--prefix", default="", metavar="/PATH", help="Below this path, as a proxy has it.")
@click.option(
    "--users", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with a line for each person: name, role (as --role has it), password.",
)  # fmt: skip
@click.option(
    "--trust-header", metavar="NAME", help="A proxy says in this header who it is, and removes it from what others send."
)
@click.option(
    "--role", "roles", multiple=True, metavar="[NAME=]ROLE",
    help="view, operate or admin, of whoever has the printed address or comes through the proxy; of one person: ops=operate; "
    "by queues: view,operate:web:*. Repeatable.  [default: admin]",
)  # fmt: skip
@click.option("--arguments", default="view", show_default=True, type=click.Choice(ROLES),
              help="The role that sees the arguments and the results of tasks.")  # fmt: skip
@connected
def ui(
    url: str,
    listen: str,
    queues: tuple[str, ...],
    readonly: bool,
    environment: str,
    prefix: str,
    users: Path | None,
    trust_header: str | None,
    roles: tuple[str, ...],
    arguments: str,
) -> None:
    """Serve the web UI: what waits, what runs, what failed, and what to do about it.

    Without --users and --trust-header the address that is printed has a token, which can be used once.
    """
    web = import_module("delayed.web")
    try:
        uvicorn = import_module("uvicorn")
    except ImportError as error:
        raise ConfigurationError(f"`delayed ui` needs {error.name}: pip install 'delayedq[ui]'") from error
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise click.UsageError(f"--prefix begins with a / and does not end with one, unlike {prefix!r}")
    if users and roles:
        raise click.UsageError("with --users, the roles stand in that file")
    everyone, persons = _roles(roles)
    if persons and not trust_header:
        raise click.UsageError("the role of a person is for --trust-header: with the printed address nobody has a name")
    token = None if users or trust_header else web.OneTimeToken(everyone or "view")
    who: Any = token or (
        web.passwords({name: web.User(*user) for name, user in _users(users).items()})
        if users
        else web.by_header(trust_header or "", everyone, persons)
    )
    conn = connect(url)
    app = web.app(conn, access=who, readonly=readonly, environment=environment, queues=queues or None, arguments=arguments)
    app = web.below(prefix, app) if prefix else app
    with listening(listen, 7678, _BACKLOG) as sock:
        check_access(conn)
        _tell(host_and_port(listen, 7678)[0], sock.getsockname()[1], prefix, token.token if token else None)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, server_header=False)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([sock])


def _tell(host: str, port: int, prefix: str, token: str | None) -> None:
    """Print the address, when it is listened to: with the secret that opens it, if it needs one."""
    shown = f"[{host}]" if ":" in host else host or "0.0.0.0"  # noqa: S104  # `:7678` means all addresses, as elsewhere
    click.echo(f"http://{shown}:{port}{escaped(prefix)}/{f'?token={token}' if token else ''}")
    if token and host not in _LOCAL:
        click.echo("The token goes over the network in clear text: put a proxy with TLS in front of it.", err=True)


def _roles(given: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The role of everyone, and of each person that is named. Where only persons are, others see nothing."""
    everyone, persons = list[str](), dict[str, str]()
    for each in given or ("admin",):
        name, equals, role = each.partition("=")
        if not equals or (":" in name and name.partition(":")[0] in ROLES):  # then it is a pattern that has the =
            everyone.append(each)
        else:
            persons[name] = f"{persons[name]},{role}" if name in persons else role
    return ",".join(everyone) or None, persons


def _users(path: Path) -> dict[str, tuple[str, str]]:
    """Name → password and role."""
    found, mode = dict[str, tuple[str, str]](), path.stat().st_mode
    if mode & 0o077 and os.name == "posix":
        raise ConfigurationError(f"{path} has passwords: nobody else may read it; chmod 600")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            words = line.split(maxsplit=2)
            if len(words) != 3:
                raise ConfigurationError(f"{path}, line {number}: write a name, a role and a password")
            found[words[0]] = (words[2].strip(), words[1])
    return found
