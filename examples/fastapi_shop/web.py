"""A web application that answers at once, and leaves the work to workers.

uvicorn web:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from delayed import AsyncQueue, Duplicate, PyTask, UnknownTask
from delayed.backoff import Exponential
from delayed.queue import AsyncHandle

queue = AsyncQueue("orders", os.environ.get("DELAYED_REDIS_URL", "redis://localhost:6379/0"))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Closes the connections to Redis when the application ends."""
    async with queue:
        yield


app = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    """What a customer sends."""

    number: str
    items: list[str]


@app.post("/orders", status_code=202)
async def place(order: Order) -> dict[str, str | None]:
    """Enqueues the shipment. While it is not done, `unique` refuses a second one of the same order."""
    task = PyTask(
        "orders:ship",
        (order.number, order.items),
        retry=5,
        backoff=Exponential(1, cap=60),
        result_ttl=3600,
        unique=f"ship-{order.number}",
    )
    try:
        handle = await queue.enqueue(task)
    except Duplicate as error:
        raise HTTPException(409, f"order {order.number} is being shipped: see /shipments/{error.id}") from None
    return {"shipment": handle.id}


@app.get("/shipments/{shipment}")
async def follow(shipment: str) -> dict[str, object]:
    """Says how far it is. The id is all that one has to keep of a task."""
    handle = AsyncHandle(queue, shipment)
    try:
        status = await handle.astatus()
    except UnknownTask:
        raise HTTPException(404, "there is no such shipment, or it ended more than an hour ago") from None
    parcel = await handle.aresult() if status.state == "succeeded" else None
    return {"state": status.state, "packed": status.done, "items": status.total, "parcel": parcel}
