"""What makes and finds the workflows of a queue that is not on a Redis of our own."""

from collections.abc import Iterator
from typing import Any, Protocol


class Workflows(Protocol):
    """The workflows whose home is one queue; see `delayed.workflow`."""

    def submit(self, flow: Any) -> Any:
        """Start a workflow that has been put together, a `Flow`. Returns its `Run`."""

    def run(self, identity: str) -> Any:
        """The `Run` of a workflow, by its id."""

    def runs(self, ended: bool) -> Iterator[Any]:
        """All that are known, or those that go on."""
