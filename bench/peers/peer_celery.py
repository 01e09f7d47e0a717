"""celery: `fill <tasks>`; `work <options of celery worker>`; `results`. Results are ignored, if not asked for."""

import os
import sys

import notes
from celery import Celery

url = os.environ["BENCH_REDIS"]
app = Celery("peer_celery", broker=url, backend=url if notes.KEPT else None)
app.conf.update(broker_connection_retry_on_startup=True, worker_send_task_events=False)
app.conf.update(task_ignore_result=not notes.KEPT, result_expires=60)


@app.task(name="mark")
def mark(i):
    return marks.echo(i) if notes.KEPT else marks.mark(i)


import marks

if __name__ == "__main__":
    if sys.argv[1] == "fill":
        with app.producer_pool.acquire(block=True) as producer, notes.enqueuing() as ids:
            for i in range(int(sys.argv[2])):
                ids.append(mark.apply_async((i,), producer=producer).id)
    elif sys.argv[1] == "results":
        notes.note_results(app.AsyncResult(id_).result for id_ in notes.noted_ids())
    else:
        app.worker_main(["worker", "--loglevel=WARNING", *sys.argv[2:]])
