"""What an operator does to dead letters: retries them, with other arguments if wanted, and removes them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..base.escape import escaped
from ..base.ids import is_entry, is_id
from ..base.text import counted
from ..dead_letters.letter import DeadLetter, dead_letter
from ..dead_letters.retry import purge, retry, retry_all, retry_ids
from ..dead_letters.search import Search, search
from ..errors import InvalidAct
from ..queue.queue import Queue
from ..task.decode import headers_of
from ..task.hidden import HIDDEN, is_hidden
from .audit import Actor, Done, audited, chosen, named


def retry_letters(queue: Queue, by: Actor, ids: Sequence[str]) -> Done:
    """Put these dead letters back at the end of their queue. What is no letter's id is that of a task, and stands for its
    newest letter."""
    return audited(
        queue,
        by,
        "dead.retry",
        named(ids),
        lambda: _each(queue, "dead.retry", ids, _waits_again, lambda some: retry_ids(queue, some)),
    )


def retry_matching(queue: Queue, by: Actor, wanted: Search) -> Done:
    """Put all dead letters that fit, and are there now, back at the end of their queue."""

    def do() -> Done:
        count = retry_all(queue, wanted)
        return Done("dead.retry", queue.name, count, _waits_again(count))

    return audited(queue, by, "dead.retry", chosen(wanted), do)


def retry_edited(queue: Queue, by: Actor, which: str, args: Any = None, kwargs: Mapping[str, Any] | None = None) -> Done:
    """Put one dead letter back with other arguments; None leaves them as they are.

    Raises:
        InvalidAct: there is no such letter.
        InvalidTask: the arguments cannot be edited so.
        Duplicate: another task has its unique key.
    """
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs)):
        raise InvalidAct("""keyword arguments are an object with names: {"name": 1}""")
    letter = letter_named(queue, which)
    new = (
        HIDDEN
        if is_hidden(letter.task)
        else ", ".join(f"{word}={value!r}" for word, value in (("args", args), ("kwargs", kwargs)) if value is not None)
    )

    def do() -> Done:
        count = int(retry(queue, letter, args, kwargs))
        left = "" if count else gone(queue, [letter.id])
        return Done("dead.edit", queue.name, count, _waits_again(count), left)

    return audited(queue, by, "dead.edit", f"{letter.id} {letter.task}: {new}", do)


def delete_letters(queue: Queue, by: Actor, ids: Sequence[str]) -> Done:
    """Remove these dead letters for good, named as for `retry_letters`."""

    def remove(some: Sequence[str]) -> int:
        return int(queue.store.call("XDEL", queue.keys.dead, *some)) if some else 0

    return audited(queue, by, "dead.delete", named(ids), lambda: _each(queue, "dead.delete", ids, _removed, remove))


def delete_matching(queue: Queue, by: Actor, wanted: Search) -> Done:
    """Remove all dead letters that fit, and are there now, for good."""

    def do() -> Done:
        count = purge(queue, wanted)
        return Done("dead.delete", queue.name, count, _removed(count))

    return audited(queue, by, "dead.delete", chosen(wanted), do)


def _each(queue: Queue, act: str, ids: Sequence[str], says: Callable[[int], str], do: Callable[[Sequence[str]], int]) -> Done:
    if not ids:
        raise InvalidAct("name the dead letters: by their ids, or by those of their tasks")
    found = letter_ids(queue, ids)
    missing = [each for each in found if _present(queue, each) is None]
    count = do([each for each in found if each not in missing])
    return Done(act, queue.name, count, says(count), gone(queue, missing) if missing else "")


def _waits_again(count: int) -> str:
    return counted(count, "task waits again", "tasks wait again")


def _removed(count: int) -> str:
    return f"{counted(count, 'dead letter')} removed"


def checked_letter(text: str) -> str:
    """The id of a dead letter, or of a task.

    Raises:
        InvalidAct: it has the form of neither.
    """
    if not is_entry(text) and not is_id(text):
        raise InvalidAct(
            f"{text!r:.100} is no id of a dead letter (`delayed dead list QUEUE` shows them: 1767225600000-0), nor of a task"
        )
    return text


def letter_ids(queue: Queue, ids: Sequence[str]) -> list[str]:
    """The ids of dead letters; what is that of a task stands for its newest letter.

    Raises:
        InvalidAct: one of them has the form of neither.
    """
    sought = {each for each in map(checked_letter, ids) if not is_entry(each)}
    found: dict[str, str] = {}
    for letter in search(queue) if sought else ():
        headers = headers_of(letter.data)
        for each in sought.intersection(map(str, (headers.get("id"), headers.get("uid")))) - found.keys():
            found[each] = letter.id
        if len(found) == len(sought):
            break
    return [found.get(each, each) for each in ids]


def letter_named(queue: Queue, which: str) -> DeadLetter:
    """The dead letter with this id, or the newest of the task with this id.

    Raises:
        InvalidAct: there is none.
    """
    (entry_id,) = letter_ids(queue, [which])
    letter = _present(queue, entry_id)
    if letter is None:
        raise InvalidAct(gone(queue, [which]))
    return letter


def _present(queue: Queue, entry_id: str) -> DeadLetter | None:
    return dead_letter(queue, entry_id) if is_entry(entry_id) else None


def gone(queue: Queue, ids: Sequence[str]) -> str:
    """What to say of dead letters that are not there."""
    name = escaped(queue.name)
    return f"{name} has no dead letter {', '.join(ids)}; `delayed dead list {name}` shows what it has"
