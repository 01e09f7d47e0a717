"""Every script does to the keys what tests/vectors/scripts.json says. The Go module runs the same file."""

import json
from itertools import chain
from typing import Any

import pytest
import redis

from delayed.redis.scripts import SCRIPTS
from tests import ROOT

VECTORS = json.loads((ROOT / "tests" / "vectors" / "scripts.json").read_text())["vectors"]


def spelled(value: Any, queue: str) -> Any:
    """Undoes how values are written in the vectors: see "about" in the file."""
    if isinstance(value, str):
        return value.replace("<Q>", queue).encode()
    if isinstance(value, list):
        values: list[Any] = []
        for item in value:
            repeated = isinstance(item, dict) and "repeat" in item
            values += [spelled(item["of"], queue)] * item["repeat"] if repeated else [spelled(item, queue)]
        return values
    if isinstance(value, dict):
        if "hex" in value:
            return bytes.fromhex(value["hex"])
        return {spelled(key, queue): spelled(item, queue) for key, item in value.items()}
    return value


def store(client: Any, key: bytes, stored: dict[str, Any], queue: str) -> None:
    value = spelled(stored["value"], queue)
    if stored["type"] == "string":
        client.set(key, value)
    elif stored["type"] == "list":
        client.rpush(key, *value)
    elif stored["type"] == "hash":
        client.hset(key, mapping=value)
    elif stored["type"] == "zset":
        client.zadd(key, value)
    else:
        for entry in value:
            fields = entry[b"fields"]
            client.xadd(key, dict(zip(fields[::2], fields[1::2], strict=True)), id=entry[b"id"])
    if stored.get("ttl"):
        client.expire(key, 60)


def retrieve(client: Any, key: bytes) -> dict[str, Any]:
    kind = client.type(key).decode()
    value: Any
    if kind == "string":
        value = client.get(key)
    elif kind == "list":
        value = client.lrange(key, 0, -1)
    elif kind == "hash":
        value = {field: _field(field, text) for field, text in client.hgetall(key).items()}
    elif kind == "zset":
        value = {member: _score(score) for member, score in client.zrange(key, 0, -1, withscores=True)}
    else:  # an id that the server's clock gave is long
        value = [
            {
                b"id": b"*" if len(entry) > 10 else entry,
                b"fields": list(chain.from_iterable((field, _field(field, text)) for field, text in fields.items())),
            }
            for entry, fields in client.xrange(key)
        ]
    return {"type": kind, "value": value, "ttl": client.pttl(key) > 0}


def _field(field: bytes, text: bytes) -> bytes:
    """Likewise: when a task has ended, its timeline, and events of a history."""
    by_the_clock = (field == b"ended" and len(text) == 13) or field in (b"log", b"batch")
    return b"*" if by_the_clock else text


def _score(score: float) -> bytes:
    """As a vector spells it: what the server's clock gave is a star."""
    return b"*" if 1e12 < score < 1e13 else str(int(score)).encode()


def _parameter(vector: dict[str, Any]) -> Any:
    name = f"{vector['script']}-{vector['name']}"
    return pytest.param(vector, id=name, marks=[pytest.mark.breaks_invariants(vector["odd"])] if "odd" in vector else [])


@pytest.mark.parametrize("vector", [_parameter(vector) for vector in VECTORS])
def test_a_script_does_what_its_vector_says(vector: dict[str, Any], name: str, client: redis.Redis) -> None:
    for key, stored in vector["before"].items():
        store(client, spelled(key, name), stored, name)
    keys = spelled(vector["keys"], name)
    reply: Any = client.eval(SCRIPTS[vector["script"]].source, len(keys), *keys, *spelled(vector["argv"], name))  # type: ignore[arg-type]
    expected = spelled(vector["reply"], name)
    if vector["script"] == "page":  # the names stand in any order
        reply, expected = sorted(reply), sorted(expected)
    assert reply == expected
    found: Any = client.keys(f"{name}*")
    assert {key: retrieve(client, key) for key in found} == {
        spelled(key, name): {"type": stored["type"], "value": spelled(stored["value"], name), "ttl": stored.get("ttl", False)}
        for key, stored in vector["after"].items()
    }


def test_every_script_has_vectors() -> None:
    assert {vector["script"] for vector in VECTORS} == set(SCRIPTS)
