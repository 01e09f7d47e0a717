"""TLS before servers that do not speak it, and a sentinel that says what a test wants."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator

from tests import ROOT

CERTIFICATE = ROOT / "tests" / "certificates" / "certificate.pem"  # of 127.0.0.1 and localhost; it vouches for itself
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.contextmanager
def listening(handler: Handler, *, tls: bool = True) -> Iterator[int]:
    """Somebody listens, in a thread. Yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
    if context is not None:
        context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
    loop, begun, ports = asyncio.new_event_loop(), threading.Event(), list[int]()
    stop = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await handler(reader, writer)

    async def serve() -> None:
        server = await asyncio.start_server(noted, "127.0.0.1", 0, ssl=context)
        ports.append(server.sockets[0].getsockname()[1])
        begun.set()
        await stop.wait()
        server.close()
        # More than once: a connection that was being accepted becomes a task only now.
        while own := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in own:
                task.cancel()
            await asyncio.gather(*own, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        for _ in range(5):  # in which what was aborted is closed
            await asyncio.sleep(0)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(10)
    yield ports[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


def before(port: int) -> Handler:
    """What passes everything on to a server."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(copy(reader, back), copy(there, writer))
        finally:
            back.transport.abort()

    return handle


def sentinel(service: str, port: int, password: str = "") -> Handler:
    """What says that the primary is at `port`, to whoever knows the password."""
    state = {"name": service, "ip": "127.0.0.1", "port": str(port), "flags": "master", "config-epoch": "1"}
    state |= {"num-other-sentinels": "0", "num-slaves": "0", "quorum": "1"}
    fields = "".join(f"${len(word)}\r\n{word}\r\n" for pair in state.items() for word in pair)
    answers = {2: f"*1\r\n*{2 * len(state)}\r\n{fields}", 3: f"*1\r\n%{len(state)}\r\n{fields}"}
    wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        let_in, version = not password, 2
        while command := await _command(reader):
            word, reply = command[0].upper(), "+OK\r\n"
            asked = word == "AUTH" or "AUTH" in command
            let_in = command[-1] == password if asked else let_in
            if not let_in:
                reply = wrong if asked else "-NOAUTH Authentication required.\r\n"
            elif word == "HELLO":
                version = int(command[1])
                reply = f"%1\r\n$5\r\nproto\r\n:{version}\r\n"
            elif word == "SENTINEL":
                reply = answers[version]
            writer.write(reply.encode())
        writer.close()

    return handle


async def _command(reader: asyncio.StreamReader) -> list[str]:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
        words = []
        for _ in range(int((await reader.readuntil(b"\n"))[1:])):
            size = int((await reader.readuntil(b"\n"))[1:])
            words.append((await reader.readexactly(size + 2))[:-2].decode())
        return words
    return []
