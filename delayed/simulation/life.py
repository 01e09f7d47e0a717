"""Puts tasks of all kinds into the queues of a simulation."""

import random
from collections.abc import Callable, Sequence

from ..backoff import Exponential
from ..cron.definition import Entry
from ..cron.expression import Cron
from ..cron.schedules import Schedules
from ..queue.history import keep
from ..queue.queue import Queue
from ..task.task import GoTask, PyTask, Task
from ..workflow import Flow, group
from . import tasks

PREFIX = "simulation:"  # of the names of its queues: nothing else has such names, so that all they have can be removed
QUEUES = ("mail", "orders", "pictures")
_CUSTOMERS = ("ada", "grace", "edsger", "barbara", "donald")
_BACKOFF = Exponential(0.5, 20)
_KEPT = 3600.0  # seconds that results are kept
_HISTORY = 8 << 20  # bytes


class Life:
    """What comes into the queues.

    Args:
        queues: of the Python workers, at least one.
        retries: how often a failed call is repeated.
        go: the queue of the Go worker, if there is one.
        failure_rate: of its tasks, which do not fail by themselves.
        run_time: seconds that they run at most.
    """

    def __init__(
        self, queues: Sequence[Queue], retries: int, go: Queue | None, *, failure_rate: float, run_time: float
    ) -> None:
        self.queues, self._retries, self._go = list(queues), retries, go
        self._failure_rate, self._run_time, self._number = failure_rate, run_time, 0
        self._kinds: list[tuple[int, Callable[[], object]]] = [
            (30, self._mail), (20, self._picture), (20, self._payment), (20, self._parcels), (10, self._reminder),
            (4, self._order), (4, self._news),
        ]  # fmt: skip
        if go is not None:
            self._kinds.append((15, self._print))

    @property
    def all(self) -> list[Queue]:
        """All its queues."""
        return self.queues if self._go is None else [*self.queues, self._go]

    def prepare(self) -> None:
        """What is there from the beginning: a history of all, schedules, and an interest in orders."""
        for queue in self.all:
            keep(queue, "all", days=1, size=_HISTORY)
        for name, times in (("clean up", "* * * * *"), ("nightly report", "30 2 * * *")):
            Schedules(self.queues[0]).put(name, Entry(Cron(times), PyTask(tasks.clean_up).serialize()))
        self._at(0).set_interest({"event": "order.*"}, f"{tasks.__name__}:{tasks.count_order.__name__}")

    def step(self) -> None:
        """Put one thing in, whatever it is."""
        weights, kinds = zip(*self._kinds, strict=True)
        self._number += 1
        random.choices(kinds, weights)[0]()

    def _at(self, number: int) -> Queue:
        return self.queues[number % len(self.queues)]

    def _mail(self) -> None:
        address = f"{random.choice(_CUSTOMERS)}@example.org"
        self._at(0).enqueue(PyTask(tasks.send_mail, (address, "welcome"), retry=self._retries, backoff=_BACKOFF))

    def _payment(self) -> None:
        customer = random.choice(_CUSTOMERS)
        self._at(1).enqueue(
            PyTask(
                tasks.charge, (self._number, 17.5), retry=self._retries, backoff=_BACKOFF, concurrency_key=customer,
                concurrency=1, track=True, give_up_on=tasks.Refused,
            )
        )  # fmt: skip

    def _parcels(self) -> None:
        customer = random.choice(_CUSTOMERS)
        parcels = (PyTask(tasks.ship, (customer, self._number + each), group=customer) for each in range(random.randint(1, 4)))
        self._at(1).enqueue_many(parcels)

    def _picture(self) -> None:
        arguments = (f"picture-{self._number}.jpeg", random.choice((320, 640, 1280)))
        give_up = {"retry": self._retries, "give_up_on": ValueError, "result_ttl": _KEPT}
        self._at(2).enqueue(PyTask(tasks.resize, arguments, **give_up))  # type: ignore[arg-type]

    def _reminder(self) -> None:
        address = f"{random.choice(_CUSTOMERS)}@example.org"
        self._at(0).enqueue(PyTask(tasks.remind, (address,), after=random.uniform(1, 300), track=True))

    def _order(self) -> None:
        flow = Flow(self._at(1), f"order {self._number}")
        reserved = flow.add(PyTask(tasks.reserve, (self._number,), retry=self._retries), name="reserve")
        items = group(PyTask(tasks.pack, (item,), retry=self._retries) for item in range(random.randint(2, 12)))
        packed = flow.add(items, after=reserved, name="pack")
        flow.add(PyTask(tasks.hand_over, retry=self._retries), after=packed, name="hand over")
        flow.add(PyTask(tasks.apologize), after=reserved, when="failure", name="apologize")
        flow.submit()

    def _news(self) -> None:
        self._at(1).publish({"event": random.choice(("order.created", "order.paid")), "number": self._number})

    def _print(self) -> None:
        assert self._go is not None
        task: Task = GoTask("main.Sleep", (random.uniform(0, self._run_time),))
        if random.random() < self._failure_rate:
            task = GoTask("main.Fail", ("the printer has no paper",), retry=self._retries)
        self._go.enqueue(task)
