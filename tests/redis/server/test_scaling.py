"""How many workers an autoscaler is told to have, of a queue whose tasks do not say how long they have waited."""

from delayed.ops.overview import observed
from delayed.queue.queue import Queue
from delayed.server.consumer import Consumer
from delayed.server.links import Links
from delayed.server.scaling import desired
from delayed.task.task import PyTask


async def test_plain_tasks_that_come_faster_than_they_end(redis_url: str, queue: Queue, name: str) -> None:
    links = Links(redis_url)
    consumer = Consumer(links)
    queue.enqueue_many(PyTask("shop:pay") for _ in range(1000))
    leases = await consumer.take(name, max=10)
    await consumer.succeed_many((lease.token, None) for lease in leases)
    with consumer._served.counting(name) as beat:
        await beat.tally.close()
    view, _ = observed(queue)
    assert (view.oldest, view.workers) == (None, 1)
    assert desired(view, slo=60.0) > 10
    assert desired(view, slo=1e6) == 1
    await consumer.close()
    await links.aclose()
