"""Addresses at which a process listens."""

from ..errors import ConfigurationError


def host_and_port(text: str, example: int) -> tuple[str, int]:
    """The parts of `host:port`, `[::1]:port` or `:port`; the host is empty for all addresses of this machine.

    Args:
        text: what is said.
        example: a port that may be meant.

    Raises:
        ConfigurationError: it is no address.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 1 << 16):
        raise ConfigurationError(f"where to listen must be HOST:PORT, such as 127.0.0.1:{example}, not {text!r:.100}")
    return host.removeprefix("[").removesuffix("]"), int(port)
