import os
import sys

import last
from celery import Celery, chord

app = Celery("peer_celery", broker=last.URL, backend=last.URL)
app.conf.update(broker_connection_retry_on_startup=True)
if os.environ.get("JOINS_LATE"):
    app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, broker_transport_options={"visibility_timeout": 3})


@app.task(name="member")
def member(number):
    return last.member(number)


@app.task(name="callback")
def callback(_results):
    last.callback()


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        chord([member.s(number) for number in range(3)])(callback.s())
    else:
        app.worker_main(
            ["worker", "--loglevel=WARNING", "--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        )
