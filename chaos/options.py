"""How strong the storm is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The storm goes on until all three of `tasks`, `kills` and `seconds` are reached."""

    tasks: int = 1_000_000
    kills: int = 5000
    seconds: float = 0
    seed: int = 1
    pause: float = 0.1  # seconds between two blows, on average
    ttl: float = 3.0  # seconds that a lease lives after a beat
    beat: float = 0.5  # seconds between two beats
    sweep: float = 1.0  # seconds between two sweeps
    depth: int = 3000  # tasks that wait, at most
    stormy: bool = True  # some tasks take a while, and now and then none waits
    limit: int = 1000  # losses that bury a task: none shall be buried here

    @property
    def beyond_a_lease(self) -> float:
        """Seconds of silence after which leases may have run out, as the last beat was up to an interval ago."""
        return self.ttl - 2 * self.beat
