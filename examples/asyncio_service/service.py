"""A TCP service in asyncio: for each line `HOST PORT` it answers `open`, `closed`, or what went wrong.

python service.py PORT
"""

import asyncio
import os
import sys

from delayed import AsyncQueue, PyTask, TaskExpired, TaskFailed

queue = AsyncQueue("probes", os.environ.get("DELAYED_REDIS_URL", "redis://localhost:6379/0"))


async def answer(line: str) -> str:
    """Enqueues one probe and awaits its result, which blocks no other client."""
    host, _, port = line.strip().partition(" ")
    if not port.isdigit():
        return "say HOST PORT"
    handle = await queue.enqueue(PyTask("probes:probe", (host, int(port)), timeout=5, expires=30, result_ttl=60))
    try:
        return "open" if await handle.aresult(timeout=60) else "closed"
    except TaskExpired:
        return "no worker in 30 s"
    except TaskFailed as error:
        return error.message


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Talks to one client."""
    while line := await reader.readline():
        writer.write(f"{await answer(line.decode())}\n".encode())
        await writer.drain()
    writer.close()


async def main(port: int) -> None:
    """Serves until it is cancelled."""
    async with queue, await asyncio.start_server(serve, "127.0.0.1", port) as server:
        print(f"listening on port {port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
