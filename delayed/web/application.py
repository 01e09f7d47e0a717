"""Makes the application that people run or mount."""

import re
from collections.abc import Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount

from ..redis.command import Client
from .access import Authenticate
from .pages import PAGES
from .site import Site, client_of, names_of


def app(
    url: str | Client,
    *,
    access: Authenticate,
    readonly: bool = False,
    environment: str = "",
    queues: Iterable[str] | None = None,
    arguments: str = "view",
) -> Any:
    """The web UI as an ASGI application, to be run by itself or mounted under a prefix.

    Args:
        url: of Redis, or a client of redis-py.
        access: who may do what: `everyone`, `passwords`, `by_header`, a `OneTimeToken`, or a function of a request.
        readonly: nobody may act, whatever their role.
        environment: what a badge on each page says, such as "production".
        queues: which are shown; by default all that were served in the last 90 days.
        arguments: the role that sees the arguments and the results of tasks: `admin`, to show them to nobody else.

    Raises:
        ConfigurationError: there is no such address, or no such role.
    """
    site = Site(client_of(url), PAGES, readonly=readonly, environment=environment, names=names_of(queues), arguments=arguments)
    return site.application(access)


def below(prefix: str, app: Any) -> Any:
    """The same application below a path, such as `/queues`."""
    mount = Mount(prefix, app)
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)  # a queue's name may have a line break
    return Starlette(routes=[mount])
