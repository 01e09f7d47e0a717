"""The list of tests that are not for workflows on a server is right."""

import inspect

from . import test_run, test_workflows
from .not_over_http import FAIL, NOT_RUN


def test_each_is_there_and_says_why() -> None:
    for name in (*FAIL, *NOT_RUN):
        (found,) = [function for module in (test_run, test_workflows) if (function := getattr(module, name, None)) is not None]
        assert NOT_RUN.get(name, "") in inspect.getsource(found)
