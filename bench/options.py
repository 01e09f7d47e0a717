"""How much to measure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The size of a run."""

    quick: bool = False
    runs: int = 3
    only: tuple[str, ...] = ()  # measures, or words in the labels of contenders
    huge: bool = False  # 10 million waiting tasks too
    kinds: tuple[str, ...] = ()  # of tasks; all if there are none

    @property
    def seconds(self) -> float:
        """What one run of a drain should take."""
        return 0.5 if self.quick else 2.0

    def scaled(self, count: int) -> int:
        """`count`, or a fifth of it."""
        return count // 5 if self.quick else count


class Progress:
    """One line on the terminal that says what is being done."""

    def __init__(self) -> None:
        self._done = 0

    def __call__(self, what: str) -> None:
        """Say what begins now."""
        self._done += 1
        print(f"\r\033[K[{self._done}] {what} …", end="", flush=True)

    def clear(self) -> None:
        """Remove the line."""
        print("\r\033[K", end="", flush=True)
