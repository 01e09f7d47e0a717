"""An application with schedules."""

import os

import redis

from delayed import Queue, delayed

queue = Queue(os.environ["PLANNED_QUEUE"], redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"]))
task = delayed(queue)


@task.cron("* * * * * *", name="each second", catch_up="all", args=["planned"])
@task.cron("30 2 * * *", tz="Europe/Zurich", retry=2)
def note(word: str = "") -> None:
    queue.conn.rpush(f"{queue.name}:noted", word)
