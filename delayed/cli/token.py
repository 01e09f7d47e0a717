"""`delayed token`: makes, lists and revokes the tokens of the server."""

import json
import re
from typing import Any

import click

from ..base.checks import as_time
from ..base.clock import now
from ..base.escape import escaped
from ..redis.connect import connect
from ..redis.keys import TOKENS
from ..redis.pool import Pooled
from ..server.access import RIGHTS, Grant, Tokens, rate_text
from .amounts import Count, per_time, span
from .common import Group, connected, json_option, show


def _words(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in re.split(r"[,\s]+", value) if word))


def _tokens(url: str) -> Tokens:
    return Tokens(Pooled(connect(url), TOKENS))


@click.group(cls=Group)
def token() -> None:
    """Make, list and revoke the tokens by which the server knows its clients."""


@token.command("create")
@click.argument("name")
@click.option("--may", required=True, callback=_words, help=f"What it is for: some of {', '.join(RIGHTS)}.")
@click.option("--queues", multiple=True, metavar="GLOB", help="Only these queues: 'web:*'. Repeatable.")
@click.option("--functions", multiple=True, metavar="GLOB", help="Enqueue only these functions: 'shop:*'. Repeatable.")
@click.option("--expires", callback=span, metavar="90d", help="How long it is good for; for ever, if this is not said.")
@click.option("--rate", callback=per_time, metavar="100/s", help="Requests that each server takes in a second; /m, /h.")
@click.option("--connections", type=Count(), help="Connections that each server takes at once.")
@click.option("--max-body", type=Count(), help="Bytes that a request may have, if the server does not take fewer.")
@connected
def create(
    url: str, name: str, may: tuple[str, ...], queues: tuple[str, ...], functions: tuple[str, ...], expires: float | None,
    rate: tuple[int, float] | None, connections: int | None, max_body: int | None,
) -> None:  # fmt: skip
    """Make a token called NAME and print it, once: only its hash is kept."""
    moment = now()
    until = None if expires is None else moment + expires
    grant = Grant(name, may, queues or ("*",), functions or ("*",), until, moment, rate, connections, max_body)
    click.echo(_tokens(url).create(grant))


@token.command("list")
@json_option
@connected
def list_tokens(url: str, as_json: bool) -> None:
    """List the tokens: what they are for, and the beginnings of their hashes."""
    found = _tokens(url).all()
    if as_json:
        click.echo(json.dumps([_as_dict(key, grant) for key, grant in found], indent=2))
        return
    for key, grant in found:
        until = "for ever" if grant.expires is None else f"until {as_time(grant.expires)}{' (over)' if grant.is_over else ''}"
        where = f"queues {' '.join(grant.queues)}  functions {' '.join(grant.functions)}"
        show(["  ".join([key[:12], f"{escaped(grant.name):20}", ",".join(grant.may), where, until, *_limits(grant)])])


def _limits(grant: Grant) -> list[str]:
    found = [rate_text(grant.rate)] if grant.rate else []
    found += [f"{grant.connections} connections"] if grant.connections else []
    return found + ([f"{grant.size:,} bytes"] if grant.size else [])


def _as_dict(key: str, grant: Grant) -> dict[str, Any]:
    return {"hash": key, **{name: getattr(grant, name) for name in Grant.__slots__}}


@token.command()
@click.argument("name")
@connected
def revoke(url: str, name: str) -> None:
    """Revoke the token called NAME, or whose hash begins so. Servers hear of it within 5 s."""
    if not _tokens(url).revoke(name):
        raise click.ClickException(f"there is no token called {name!r}; `delayed token list` shows them")
    show([f"{name}: revoked"])
