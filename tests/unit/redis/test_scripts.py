"""Each script's header says what its body does, and each has a method of its name."""

import re
from typing import NamedTuple

import pytest

from delayed.redis.scripts import SCRIPTS, Script
from delayed.redis.store import Store
from tests import ROOT

WORKFLOW = ROOT / "delayed" / "workflow"  # whose parts know the keys of its scripts
FIELDS = ("Purpose", "KEYS", "ARGV", "Returns")
MARKER = "-- All keys have been read: writes begin here.\n"
READS = {"EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSCAN", "HSTRLEN", "LINDEX", "LLEN"}
READS |= {"GETRANGE", "LRANGE", "PTTL", "TIME", "TYPE", "XLEN", "XRANGE", "ZCARD", "ZRANGE", "ZRANGEBYSCORE", "ZSCORE"}
OF_ANY_TYPE = {"DEL", "EXISTS", "EXPIRE", "PEXPIRE", "PTTL", "SET", "TIME", "TYPE"}
OF_GO = {"finish_many"}  # scripts that only Go's workers use, whose goroutines end tasks together
LONGER = {"flow_join": 315, "count": 90}  # lines: one step has to know all that can follow from an end
HELPER = re.compile(r"^local function (\w+)(.*?)^end\n", re.DOTALL | re.MULTILINE)
LOOP = re.compile(r"for i = (\d+), (?:#KEYS > \d+ and )?(\d+)(?: or 0)? do(.*?)end", re.DOTALL)  # over some of the keys
COMMAND = re.compile(r"redis\.(p?)call\('(\w+)'(?:, KEYS\[([^\]]+)\])?")
TOLD = re.compile(r"-- What a workflow hears of its members: the same passage.*?-- End of the passage\.\n", re.DOTALL)
TIMELINE = re.compile(r"-- What a timeline says: the same passage.*?-- End of the passage\.\n", re.DOTALL)
HISTORY = re.compile(r"-- What a history says: the same passage.*?-- End of the passage\.\n", re.DOTALL)
PASSAGE = re.compile(r"-- What tasks hold: the same passage.*?-- End of the passage\.\n", re.DOTALL)


def _header(script: Script) -> dict[str, str]:
    lines = []
    for line in script.source.decode().splitlines():
        if not line.startswith("--"):
            break
        lines.append(line[2:].strip())
    text = " ".join(lines)
    parts = re.split(rf"\b({'|'.join(FIELDS)}): ", text)[1:]
    return {name: content.strip() for name, content in zip(parts[::2], parts[1::2], strict=True)}


def _body(script: Script) -> str:
    return "\n".join(line.partition("--")[0] for line in script.source.decode().splitlines())


def _named(described: str) -> tuple[list[str], bool]:
    """The names before any explanation in brackets, and whether the last may be repeated."""
    names = re.sub(r"\([^)]*\)", "", described).split(",")
    names = [name.strip() for name in names if name.strip() and name.strip() != "none"]
    return [name.removesuffix("...") for name in names], bool(names) and names[-1].endswith("...")


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
def test_header_names_what_the_body_uses(script: Script, table: str) -> None:
    names, repeated = _named(_header(script)[table])
    body = _body(script)
    used = {int(index) for index in re.findall(rf"{table}\[(\d+)\]", body)}
    for last in re.findall(rf"unpack\({table}, 1, (\d+)\)", body):
        used.update(range(1, int(last) + 1))
    if table == "KEYS":
        used.update(map(int, re.findall(r"\b(?:all|push)\((?:'\w+', )?(\d+), ", body)))  # helpers that take a key's index
        for index in re.findall(r"\btell_history\((\d+), ", body):
            used |= {int(index), int(index) + 1}
        used.update(
            index for first, last in re.findall(r"for i = (\d+), (\d+) do", body) for index in range(int(first), int(last) + 1)
        )
    if repeated:
        assert re.search(rf"#{table}|{table}\[[^\]]*\bi\b", body), f"{script.name} does not use all of its {table}"
        used.add(len(names))
    assert used == set(range(1, len(names) + 1)), f"{script.name}: {table} {names}, but the body uses {sorted(used)}"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_more_than_four_arguments_have_the_names_of_the_header(script: Script) -> None:
    names, repeated = _named(_header(script)["ARGV"])
    single = names[:-1] if repeated else names
    first = next(line for line in _body(script).splitlines() if line)
    if len(names) > 4:
        assert first == f"local {', '.join(single)} = unpack(ARGV, 1, {len(single)})"


class Command(NamedTuple):
    """What a script sends to Redis."""

    protected: bool  # `pcall`: the script goes on after an error
    name: str
    key: str  # its index in KEYS, as it is written

    @property
    def writes(self) -> bool:
        return self.name not in READS

    @property
    def needs_type(self) -> bool:
        return not self.protected and self.name not in OF_ANY_TYPE


def _commands(code: str) -> list[Command]:
    """In their order; those of a loop over some of the keys once for each of these."""

    def unrolled(loop: re.Match[str]) -> str:
        keys = range(int(loop[1]), int(loop[2]) + 1)
        return "".join(loop[3].replace("KEYS[i]", f"KEYS[{i}]").replace("KEYS[i + 2]", f"KEYS[{i + 2}]") for i in keys)

    return [Command(p == "p", name, key) for p, name, key in COMMAND.findall(LOOP.sub(unrolled, code))]


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_all_keys_are_read_before_one_is_written(script: Script) -> None:
    """A script ends at a key of a foreign type, and Redis does not undo what it has done by then."""
    source = script.source.decode()
    helpers = [name for name, code in HELPER.findall(source) if any(command.writes for command in _commands(code))]
    code = HELPER.sub("", source)
    if not any(command.writes for command in _commands(code)):
        assert MARKER not in code
        return
    assert code.count(MARKER) == 1
    above, below = code.split(MARKER)
    assert not [command for command in _commands(above) if command.writes]
    assert not [name for name in helpers if re.search(rf"\b{name}\(", above)]
    above = above.replace("KEYS[at]", "KEYS[i]")
    read = {command.key for command in _commands(above) if command.needs_type or command.protected}
    read.update(re.findall(r"\b(?:has|is)\(([^,]+), '", code))  # it is left alone if it has another type
    read.update(re.findall(r"local found = redis\.call\('TYPE', KEYS\[(\w+)\]\)", below))  # likewise
    later = [command for command in _commands(below) if command.needs_type]
    read.update(command.key for command in later[:1] if command.writes)  # if the first write fails, nothing has happened
    unread = {command.key for command in later if re.fullmatch(r"(\d+|own|i)( \+ \d+)?", command.key)} - read
    assert not unread, f"{script.name} writes before it reads {unread}"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_header_is_complete_and_the_body_short(script: Script) -> None:
    assert set(_header(script)) == set(FIELDS)
    body = _body(script).splitlines()
    source = script.source.decode()
    shared = sum(len(text.splitlines()) for text in (_passage(script), *TIMELINE.findall(source), *HISTORY.findall(source)))
    code = [line for line in body if line.strip()]
    assert len(code) - shared <= LONGER.get(script.name, 70)
    assert max(map(len, script.source.decode().splitlines())) <= 140


def _passage(script: Script) -> str:
    found: list[str] = PASSAGE.findall(script.source.decode())
    return "".join(found)


def test_what_a_workflow_hears_is_known_to_all_scripts_in_one_way() -> None:
    found = {name: re.findall(TOLD, script.source.decode()) for name, script in SCRIPTS.items()}
    tell = {name: passages for name, passages in found.items() if passages}
    assert len({passage for passages in tell.values() for passage in passages}) == 1
    assert {len(passages) for passages in tell.values()} == {1}
    assert set(tell) == {"cancel", "conclude", "finish", "remove", "revive", "sweep"}


def test_what_a_timeline_says_is_known_to_all_scripts_in_one_way() -> None:
    found = {name: re.findall(TIMELINE, script.source.decode()) for name, script in SCRIPTS.items()}
    note = {name: passages for name, passages in found.items() if passages}
    assert len({passage for passages in note.values() for passage in passages}) == 1
    assert {len(passages) for passages in note.values()} == {1}
    assert set(note) == {"cancel", "defer", "give_back", "move", "postpone", "revive", "start", "sweep"}


def test_what_a_history_says_is_known_to_all_scripts_in_one_way() -> None:
    found = {name: re.findall(HISTORY, script.source.decode()) for name, script in SCRIPTS.items()}
    told = {name: passages for name, passages in found.items() if passages}
    assert len({passage for passages in told.values() for passage in passages}) == 1
    assert set(told) == {"cancel", "remove", "sweep"}


def test_what_tasks_hold_is_known_to_all_scripts_in_one_way() -> None:
    """A script knows the whole passage, or the part of it that wakes those who wait."""
    passages = {_passage(script) for script in SCRIPTS.values()} - {""}
    whole, part = sorted(passages, key=len, reverse=True)
    assert whole.startswith(part.removesuffix("-- End of the passage.\n"))
    for name in ("bury", "cancel", "conclude", "defer", "give_back", "postpone", "succeed", "sweep", "tell_lost"):
        assert _passage(SCRIPTS[name]) == whole, name


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_no_script_builds_a_key(script: Script) -> None:
    for call in re.findall(r"redis\.call\(([^\n]*)", _body(script).replace("redis.call('TIME')", "")):
        _command, key = (part.strip() for part in call.split(",")[:2])
        assert re.fullmatch(r"KEYS\[[^\]]+\]\)*.*|unpack\(KEYS", key), f"{script.name}: {call}"


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_unpack_is_bounded(script: Script) -> None:
    for arguments in re.findall(r"unpack\(([^)]*)\)", _body(script)):
        made = ("ones", "held", "names", "stored", "log", "entries", "marks")  # by a bounded loop, or one per lease
        bounded = (
            arguments.count(",") == 2 or "CHUNK" in arguments or arguments in made or "'HMGET'" in arguments
        )  # some fields
        assert bounded, f"{script.name}: unpack({arguments})"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_store_has_a_method_of_the_name(name: str) -> None:
    if name.startswith("flow_"):
        assert any(f'"{name}"' in path.read_text() for path in WORKFLOW.glob("*.py"))
    else:
        assert name in OF_GO or callable(getattr(Store, name))
