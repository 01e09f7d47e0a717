"""How strong the storm is."""

from dataclasses import dataclass

SLOW, FLAPPING, CLOCK, FULL = "slow", "flapping", "clock", "full"
STALE, BLOCKED, ROUGH, ODD, SERVERS = "stale", "blocked", "rough", "odd", "server"
TROUBLES = {
    SLOW: "the links of all sweepers are slow for a while, and when all comes to rest",
    FLAPPING: "the links of all sweepers break again and again",
    CLOCK: "the clock of Redis is set forward and back",
    FULL: "the memory of Redis is full for some seconds",
    STALE: "two workers, and a Go worker, know only some of the functions",
    BLOCKED: "nobody reads what a process says, for a while or until its end",
    ROUGH: "a worker has middlewares, hooks and listeners that raise",
    ODD: "tasks raise what no exception should be, return what is to be awaited, print much, or have senseless headers",
    SERVERS: "three servers, and producers and consumers that reach them by HTTP and the text protocol",
}  # what can be left out by --without, to say what each of them finds


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
    grace: float = 5.0  # seconds that a stopped worker has
    troubles: frozenset[str] = frozenset(TROUBLES)

    @property
    def beyond_a_lease(self) -> float:
        """Seconds of silence after which leases may have run out, as the last beat was up to an interval ago."""
        return self.ttl - 2 * self.beat
