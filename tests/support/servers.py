"""Private servers that tests may kill: one that comes back with its data, Sentinel with replicas, a cluster with replicas."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from delayed.redis.embedded import EmbeddedRedis, server_path
from delayed.system.child import ChildProcess

from .waiting import eventually

SLOTS = 16384
SERVICE = "mymaster"
OPEN = {  # for servers that talk to each other, at once, and for programs that know the port alone
    "requirepass": "",
    "repl-diskless-sync-delay": "0",
}
_DOWN_AFTER = 800  # milliseconds of silence after which a server counts as dead


def free_port() -> int:
    """A port on the loopback interface whose cluster bus port, 10,000 above it, exists and is free too."""
    while True:
        with contextlib.ExitStack() as stack:
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            low = 12_000 + int(probe.getsockname()[1]) % 20_000  # below the ports that the system hands out
            try:
                for port in (low, low + 10_000):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return low


def open_redis(
    folder: Path | None = None, *, persistent: bool = False, options: dict[str, str] | None = None
) -> EmbeddedRedis:
    """A server on a free port of the loopback interface, without a password."""
    return EmbeddedRedis(folder, free_port(), persistent=persistent, options={**OPEN, **(options or {})})


def info(client: redis.Redis, section: str) -> dict[str, Any]:
    """A section of INFO."""
    return client.info(section)


def pid(server: EmbeddedRedis) -> int:
    with server.client() as client:
        return int(info(client, "server")["process_id"])


def kill(server: EmbeddedRedis) -> None:
    """SIGKILL."""
    os.kill(pid(server), signal.SIGKILL)


def follow(server: EmbeddedRedis, primary: int) -> None:
    """Make a server a replica. (As an option, Redis 6.2 does not take it with two words.)"""
    with server.client() as client:
        client.replicaof("127.0.0.1", primary)


class Sentinels:
    """A primary with two replicas, watched by three sentinels.

    Args:
        folder: for all their files.
        options: of the three servers.
    """

    def __init__(self, folder: Path, options: dict[str, str] | None = None) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._options = options or {}
        self.servers: dict[int, EmbeddedRedis] = {}
        self.ports = [free_port() for _ in range(3)]
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{SERVICE}"

    def __enter__(self) -> "Sentinels":
        with self._stack:
            first = self._add()
            for _ in range(2):
                self._add(first)
            for port in self.ports:
                self._stack.callback(self._sentinel(port, first).stop)
            self.wait_for_replicas()
            eventually(lambda: all(self._knows(port, b"num-other-sentinels", 2) for port in self.ports), 30)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _add(self, primary: int | None = None) -> int:
        port = free_port()
        options = {
            "repl-ping-replica-period": "1",
            "repl-timeout": "5",
            **OPEN,
            **self._options,
        }
        server = EmbeddedRedis(self._folder / f"s{port}", port, options=options)
        self.servers[port] = self._stack.enter_context(server)
        if primary is not None:
            follow(server, primary)
        return port

    def _sentinel(self, port: int, primary: int) -> ChildProcess:
        folder = self._folder / f"sentinel{port}"
        folder.mkdir()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
            f"sentinel parallel-syncs {SERVICE} 2\n"
        )
        return ChildProcess([server_path(), str(config), "--sentinel"])

    def _knows(self, port: int, name: bytes, least: int) -> bool:
        with redis.Redis(port=port, protocol=2) as client:
            try:
                state = client.connection_pool.get_connection()
                state.send_command("SENTINEL", "MASTER", SERVICE)
                reply = state.read_response(disable_decoding=True)
            except redis.RedisError:
                return False
        return int(dict(zip(reply[::2], reply[1::2], strict=True))[name]) >= least

    def primary(self, _key: str = "") -> EmbeddedRedis | None:
        """The server that most sentinels name."""
        named = self._named()
        return self.servers.get(max(named, key=named.count)) if named else None

    def _named(self) -> list[int]:
        named = []
        for port in self.ports:
            with contextlib.suppress(redis.RedisError), redis.Redis(port=port) as client:
                address = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
                named.append(int(address[1]))
        return named

    def wait_for_replicas(self, count: int = 2) -> None:
        """Until the primary has so many replicas in sync, and the sentinels know it."""

        def ready() -> bool:
            server = self.primary()
            if server is None:
                return False
            try:
                with server.client() as client:
                    about = client.info("replication")
            except redis.RedisError:
                return False
            replicas = [about[f"slave{number}"] for number in range(about.get("connected_slaves", 0))]
            in_sync = [replica for replica in replicas if replica["state"] == "online"]
            return about["role"] == "master" and len(in_sync) >= count

        eventually(ready, 60)
        eventually(lambda: all(self._knows(port, b"num-slaves", count) for port in self.ports), 60)

    def kill_primary(self, _key: str = "") -> EmbeddedRedis:
        """SIGKILL, and wait until the sentinels name another. Returns the dead one."""
        dead = self.primary()
        assert dead is not None
        kill(dead)
        eventually(lambda: (now := self.primary()) is not None and now is not dead and _is_primary(now), 60)
        return dead

    def restart(self, dead: EmbeddedRedis) -> None:
        """Bring a killed server back as a replica, and wait until it is one."""
        dead.stop()
        now = self.primary()
        assert now is not None
        assert now.port is not None
        dead.start()
        follow(dead, now.port)
        self.wait_for_replicas()


class Cluster:
    """Three primaries, and a replica for each.

    Args:
        folder: for all their files.
        options: of the servers.
    """

    def __init__(self, folder: Path, options: dict[str, str] | None = None) -> None:
        settings = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "cluster-node-timeout": "1500"}
        settings |= {"cluster-replica-validity-factor": "0", **OPEN, **(options or {})}
        self.servers = [EmbeddedRedis(folder / f"c{port}", port, options=settings) for port in (free_port() for _ in range(6))]
        self.url = f"redis+cluster://127.0.0.1:{self.servers[0].port}"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Cluster":
        with self._stack:
            for server in self.servers:
                self._stack.enter_context(server)
            clients = [self._stack.enter_context(server.client()) for server in self.servers]
            for index, client in enumerate(clients):
                if index < 3:
                    slots = range(SLOTS * index // 3, SLOTS * (index + 1) // 3)
                    client.execute_command("CLUSTER ADDSLOTS", *slots)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
                client.execute_command("CLUSTER MEET", "127.0.0.1", self.servers[0].port)
            for client in clients:
                eventually(lambda client=client: len(_nodes(client)) == 6, 60)  # type: ignore[misc]
            for index, client in enumerate(clients[3:]):
                primary = clients[index].execute_command("CLUSTER MYID")
                eventually(lambda c=client, p=primary: c.execute_command("CLUSTER REPLICATE", p), 30)  # type: ignore[misc]
            self.wait_until_whole()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait_until_whole(self) -> None:
        """Until every server sees three primaries with slots, each with a replica that is in sync."""

        def whole(server: EmbeddedRedis) -> bool:
            try:
                with server.client() as client:
                    about = client.info("replication")
                    state = _cluster_info(client)
                    nodes = _nodes(client)
            except redis.RedisError:
                return False
            if about["role"] == "master":
                linked = about["connected_slaves"] >= 1 and about["slave0"]["state"] == "online"
            else:
                linked = about["master_link_status"] == "up"
            healthy = not any("fail" in flags for flags in nodes.values())
            return linked and healthy and "cluster_state:ok" in state and sum("slave" in each for each in nodes.values()) == 3

        for server in self.servers:
            eventually(lambda server=server: whole(server), 60)  # type: ignore[misc]

    def primary(self, key: str) -> EmbeddedRedis | None:
        """The server that has the slot of `key`."""
        for server in self.servers:
            with contextlib.suppress(redis.RedisError), server.client() as client:
                if client.info("replication")["role"] == "master":
                    client.execute_command("LLEN", key)  # MOVED if it is another's
                    return server
        return None

    def kill_primary(self, key: str) -> EmbeddedRedis:
        """SIGKILL, and wait until another server has the slot of `key`. Returns the dead one."""
        dead = self.primary(key)
        assert dead is not None
        kill(dead)
        eventually(lambda: self.primary(key) not in {None, dead}, 60)
        return dead

    def restart(self, dead: EmbeddedRedis) -> None:
        """Bring a killed server back, and wait until it is a replica."""
        dead.stop()
        dead.start()
        self.wait_until_whole()


def _is_primary(server: EmbeddedRedis) -> bool:
    try:
        with server.client() as client:
            return str(client.info("replication")["role"]) == "master"
    except redis.RedisError:
        return False


def _cluster_info(client: redis.Redis) -> str:
    reply = client.execute_command("CLUSTER INFO")
    return reply.decode() if isinstance(reply, bytes) else "\n".join(f"{name}:{value}" for name, value in reply.items())


def _nodes(client: redis.Redis) -> dict[str, str]:
    """Address → flags."""
    reply = client.execute_command("CLUSTER NODES")
    return {str(address): str(about["flags"]) for address, about in reply.items()}


@contextlib.contextmanager
def stopped(server: EmbeddedRedis) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end."""
    number = pid(server)
    os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(number, signal.SIGCONT)
