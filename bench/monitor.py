"""Counts the commands that clients send. Redis's own counters (total_commands_processed, commandstats) also count what scripts
call; MONITOR tells the two apart."""

import secrets
import socket
from typing import Self

import redis


class Monitor:
    """Counts commands while its `with` block runs, and names the commands."""

    def __init__(self, client: redis.Redis, port: int) -> None:
        self._client = client
        self._socket = socket.create_connection(("127.0.0.1", port))
        self.commands: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        self._socket.recv(5)
        return self

    def __exit__(self, *_: object) -> None:
        marker = secrets.token_hex(8)
        self._client.echo(marker)
        with self._socket, self._socket.makefile("rb") as lines:
            for line in lines:
                if marker.encode() in line:
                    return
                rest = line.partition(b"[")[2]
                source, _separator, command = rest.partition(b"] ")
                if command and not source.endswith(b" lua"):
                    name = command.split(b'"')[1].decode().upper()
                    self.commands[name] = self.commands.get(name, 0) + 1

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self.commands.values())
