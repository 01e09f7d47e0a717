"""Bodies of requests."""

import asyncio
import threading
from typing import Any

import pytest

from delayed.server.http import WHOLE, Request
from delayed.server.mapping import parse


def test_a_large_body_is_parsed_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    used = dict[int, int]()

    def noted(text: bytes) -> Any:
        used[len(text)] = threading.get_ident()
        return parse(text)

    async def receive() -> dict[str, Any]:
        raise AssertionError("all of it is there")

    monkeypatch.setattr("delayed.server.http.parse", noted)
    for size in (10, 1 << 20):
        body = b'"' + b"x" * (size - 2) + b'"'
        request = Request({"method": "POST", "headers": [], WHOLE: body}, receive, 8 << 20)
        assert len(asyncio.run(request.json())) == size - 2
    here = threading.get_ident()
    assert used[10] == here
    assert used[1 << 20] != here
