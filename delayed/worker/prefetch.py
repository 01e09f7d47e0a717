"""Decides how many tasks to take at a time: a few milliseconds' work, learnt from the tasks themselves."""

MOST = 128  # tasks; more saves little, as a round trip is by then one hundredth of the work
BUDGET = 0.005  # seconds of work in hand: what a task may have to wait behind others that its worker holds
_BYTES = 1 << 20  # bytes in one reply


class Prefetch:
    """Learns from each batch how large the next one may be; begins with one, and at most doubles."""

    def __init__(self) -> None:
        self.size = 1
        self.known = False  # nothing has been learnt

    def learn(self, count: int, seconds: float, size: int) -> int:
        """`count` tasks with `size` bytes together took `seconds`. Returns how large the next batch may be."""
        self.known = True
        affordable = int(BUDGET * count / seconds) if seconds > 0 else MOST
        portable = _BYTES * count // max(size, 1)
        # A take that did not get all it asked for is followed by a smaller one: asking for much costs time, too.
        wanted = 2 * self.size if count >= self.size else max(2 * count, self.size // 2)
        self.size = max(1, min(wanted, MOST, affordable, portable))
        return self.size
