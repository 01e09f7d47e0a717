"""`delayed server`: tasks over HTTP."""

from importlib import import_module
from typing import Any

import click

from .amounts import Count
from .common import connected, log_options, setup_log

_BODY = 8 << 20  # bytes


@click.command()
@click.option(
    "--http", multiple=True, metavar="HOST:PORT", help="Listen here: 127.0.0.1:7677, if nothing else is said. Repeatable."
)
@click.option("--uds", multiple=True, metavar="PATH", help="Listen on this Unix socket. Repeatable.")
@click.option("--text", multiple=True, metavar="HOST:PORT", help="Speak the text protocol here, such as 127.0.0.1:7979.")
@click.option("--compat", default="", metavar="NAMES", help="Also have the interfaces of taskq, couchqueue (with commas).")
@click.option("--ui", is_flag=True, help="Have the web UI at /ui, for tokens that may read: of the queues that they are for.")
@click.option("--tls-cert", metavar="FILE", help="Speak TLS, with this certificate, and those that it is signed by.")
@click.option("--tls-key", metavar="FILE", help="Its key.")
@click.option("--max-body", type=Count(1024), default=_BODY, show_default=True, help="Bytes that a request may have.")
@click.option("--max-connections", type=Count(), help="Refuse others with 503.")
@log_options
@connected
def server(
    url: str, http: tuple[str, ...], uds: tuple[str, ...], text: tuple[str, ...], compat: str, ui: bool,
    tls_cert: str | None, tls_key: str | None, max_body: int, max_connections: int | None, log_level: str, log_format: str,
) -> None:  # fmt: skip
    """Let programs in any language produce, consume and operate over HTTP.

    It keeps nothing: run as many as you like. Without tokens (`delayed token create`) only this machine is served.
    """
    setup_log(log_level, log_format)
    try:
        serve: Any = import_module("..server.serve", __package__)
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}: pip install 'delayedq[server]' brings what the server needs") from error
    inherited = serve.is_handed_sockets()
    settings = serve.Settings(
        url=url, http=http or (() if uds or inherited else ("127.0.0.1:7677",)), uds=uds, certificate=tls_cert, key=tls_key,
        most=max_body, connections=max_connections,
    )  # fmt: skip
    if ui:
        web: Any = import_module("..server.ui", __package__)
        settings = web.with_ui(settings)
    protocols: Any = import_module("..server.protocols", __package__)
    serve.run(protocols.with_protocols(settings, text, [each for each in compat.split(",") if each]))
