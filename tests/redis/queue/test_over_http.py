"""The list of tests that are not for queues on a server is right."""

import inspect
from importlib import import_module
from pathlib import Path

from .not_over_http import FAIL, NOT_RUN, QUICK


def test_each_is_there_and_says_why() -> None:
    assert not QUICK & (FAIL.keys() | NOT_RUN.keys())
    modules = [import_module(f"{__package__}.{path.stem}") for path in Path(__file__).parent.glob("test_*.py")]
    for name in (*FAIL, *NOT_RUN, *QUICK):
        (found,) = [function for module in modules if (function := getattr(module, name, None)) is not None]
        assert NOT_RUN.get(name, "") in inspect.getsource(found)
