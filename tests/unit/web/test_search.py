"""The words of a search."""

import pytest

from delayed.errors import DelayedError
from delayed.ops.tasks import TaskFilter
from delayed.web.search import parse


@pytest.mark.parametrize(
    ("text", "wanted", "queues"),
    [
        ("", TaskFilter(), ()),
        ("state:dead fn:shop:* timed out", TaskFilter("dead", "shop:*", "timed out"), ()),
        ('queue:mail queue:"a b" overdue', TaskFilter(overdue=True), ("mail", "a b")),
        ("function:m:f where:scheduled", TaskFilter(None, "m:f", None, "scheduled"), ()),
        ("error:refused", TaskFilter(error="refused"), ()),
        ('error:"timed out" x', TaskFilter(error="timed out", text="x"), ()),
        ("id:0123456789abcdef", TaskFilter(text="0123456789abcdef"), ()),
        ("http://x y:z", TaskFilter(text="http://x y:z"), ()),
        ("worker:web1", TaskFilter("running", worker="web1"), ()),
        ("worker:web1:* state:dead", TaskFilter("dead", worker="web1:*"), ()),
        ("group:tenant-* where:group", TaskFilter(where="group", group="tenant-*"), ()),
        (
            "myapp.tasks:send shop:* ValueError: 10:30 a=b",
            TaskFilter(text="myapp.tasks:send shop:* ValueError: 10:30 a=b"),
            (),
        ),
        ("\"tenant: 7\" 'age>10m' text:age:10m", TaskFilter(text="tenant: 7 age>10m age:10m"), ()),
        ("text:'say \"x\"' it\\'s", TaskFilter(text='it\'s say "x"'), ()),
        ("'fn:shop:f g'", TaskFilter(function="shop:f g"), ()),
        ("'state:dead x'", None, ()),
    ],
)
def test_it_is_understood(text: str, wanted: TaskFilter | None, queues: tuple[str, ...]) -> None:
    if wanted is None:
        with pytest.raises(DelayedError, match="state is one of"):
            parse(text)
        return
    found = parse(text)
    assert (found.filter, found.queues) == (wanted, queues)


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("0123456789abcdef", "0123456789abcdef"),
        ("queue:mail 0123456789abcdef", "0123456789abcdef"),
        ("id:0123456789abcdef state:dead", "0123456789abcdef"),
        ("text:0123456789abcdef", None),
        ("fn:m:* 0123456789abcdef", None),
        ("0123456789abcdef overdue", None),
        ("0123456789abcdef x", None),
        ("id:mail", None),
        ("mail", None),
    ],
)
def test_an_id_means_one_task(text: str, identity: str | None) -> None:
    assert parse(text).id == identity


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"x', "quotation mark"),
        ("state:odd", "state is one of"),
        ("where:odd", "where is one of"),
        ("age:10m", "'age:10m' is no word of a search: there are state:, fn:, queue:, where:, error:, worker:, group:, text:"),
        ("age>10m", "'age>10m' is no word"),
        ("state=dead", "'state=dead' is no word"),
        ("reason:lost", "no word"),
        ("tenant:7", "no word"),
        ("foo: bar", "no word"),
        ("worker: web1", "worker: says nothing"),
        ("queue:", "says nothing"),
        ("worker:web1 overdue", "no worker has what waits"),
        ("worker:web1 state:waiting", "no worker has"),
        ("worker:web1 where:queue", "no worker has"),
    ],
)
def test_it_says_what_it_does_not_understand(text: str, says: str) -> None:
    with pytest.raises(DelayedError, match=says):
        parse(text)
