"""rq: `fill <tasks>`; `work fork` (its default: a child for each job) or `work simple` (in the worker process);
`results`. Results are off, if not asked for."""

import os
import sys

import notes
import redis
from rq import Queue, SimpleWorker, Worker
from rq.job import Job

connection = redis.Redis.from_url(os.environ["BENCH_REDIS"])
queue = Queue("bench", connection=connection)
if sys.argv[1] == "fill":
    function, ttl = ("marks.echo", 60) if notes.KEPT else ("marks.mark", 0)
    with notes.enqueuing() as ids:
        for chunk in notes.chunks(int(sys.argv[2]), 500):
            if notes.ONE_BY_ONE:
                jobs = [queue.enqueue(function, *chunk, result_ttl=ttl)]
            else:
                jobs = queue.enqueue_many([Queue.prepare_data(function, (i,), result_ttl=ttl) for i in chunk])
            ids += [job.id for job in jobs]
elif sys.argv[1] == "results":
    notes.note_results(job.return_value() for job in Job.fetch_many(notes.noted_ids(), connection))
else:
    kind = Worker if sys.argv[2] == "fork" else SimpleWorker
    kind([queue], connection=connection).work(logging_level="WARNING")
