"""Coroutine tasks: `delayed worker --async-tasks 200` has up to 200 of them in flight in one event loop."""

import asyncio


async def probe(host: str, port: int) -> bool:
    """Says whether something listens there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
