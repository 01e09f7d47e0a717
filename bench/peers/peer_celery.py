"""celery: `fill <tasks>`; `work <options of celery worker>`. Results are ignored."""

import os
import sys

from celery import Celery

app = Celery("peer_celery", broker=os.environ["BENCH_REDIS"])
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, worker_send_task_events=False)


@app.task(name="mark")
def mark(i):
    marks.mark(i)


import marks

if __name__ == "__main__":
    if sys.argv[1] == "fill":
        with app.producer_pool.acquire(block=True) as producer:
            for i in range(int(sys.argv[2])):
                mark.apply_async((i,), producer=producer)
    else:
        app.worker_main(["worker", "--loglevel=WARNING", *sys.argv[2:]])
