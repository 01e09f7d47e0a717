"""The shop's web application: it answers at once, and leaves the work to workers.

uvicorn shop.web:api
"""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

from delayed import State, UnknownTask

from .jobs import app, charge, export, invoice, rebuild_index, thumbnail, welcome

api = FastAPI()


class Order(BaseModel):
    """What a customer sends."""

    number: int
    total: Decimal
    customer: str
    hook: str


@api.post("/customers", status_code=202)
async def register(email: str, urgent: bool = False) -> dict[str, str | None]:
    """Sends a mail; an urgent one before all that waits."""
    handle = await welcome.options(priority="high" if urgent else "normal").adelay(email)
    return {"task": handle.id}


@api.post("/pictures")
async def upload(name: str) -> str:
    """Waits for the thumbnail: any number of requests wait over one connection."""
    return await (await thumbnail.adelay(name, 200)).aresult(timeout=10)


@api.post("/orders", status_code=202)
async def order(placed: Order, x_request_id: Annotated[str, Header()] = "none") -> dict[str, str | None]:
    """The id of the request goes with the task, and with each that it enqueues."""
    calls = charge.options(metadata={"request": x_request_id})
    handle = await calls.adelay(placed.number, placed.total, placed.hook, placed.customer)
    return {"task": handle.id}


@api.post("/invoices")
async def invoices(orders: list[int]) -> list[str]:
    """Many calls in one go; each has its handle."""
    handles = await app.aenqueue_many(invoice.call(number) for number in orders)
    return [await handle.aresult(timeout=10) for handle in handles]


@api.post("/index", status_code=202)
async def index() -> dict[str, str | None]:
    """However often it is asked for, one waits at most."""
    return {"task": (await rebuild_index.adelay()).id}


@api.post("/exports", status_code=202)
async def begin(rows: int) -> dict[str, str | None]:
    """The id is all that the browser has to keep."""
    return {"task": (await export.adelay(rows)).id}


@api.get("/exports/{task}")
async def follow(task: str) -> dict[str, Any]:
    """How far it is."""
    handle = export.ahandle(task)
    try:
        status = await handle.astatus()
    except UnknownTask:
        raise HTTPException(404, "there is no such export, or it ended more than a day ago") from None
    file = await handle.aresult() if status.state is State.SUCCEEDED else None
    return {"state": status.state, "done": status.done, "total": status.total, "file": file}


@api.delete("/exports/{task}")
async def stop(task: str) -> dict[str, str]:
    """Says in which state it was."""
    try:
        return {"was": await export.ahandle(task).acancel()}
    except UnknownTask:
        raise HTTPException(404, "there is no such export") from None


@api.delete("/tasks/{task}")
async def forget(task: str) -> dict[str, str]:
    """Any task that has not begun, in whichever queue it waits."""
    try:
        return {"was": await app.acancel(task)}
    except UnknownTask as error:
        raise HTTPException(404, str(error)) from None
