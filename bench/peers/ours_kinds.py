"""Our own worker and producer, for one kind of bench/kinds.py: `ours_kinds.py <kind> fill <tasks>`, `… work`, `… results`."""

import os
import sys

import notes

from bench.kinds import KINDS
from delayed import Handle, Queue, State
from delayed.logger import setup_logger
from delayed.worker.worker import Worker

queue = Queue("bench", os.environ["BENCH_REDIS"])
kind, command = KINDS[sys.argv[1]], sys.argv[2]
if command == "fill":
    tasks = kind.tasks(int(sys.argv[3]))
    handles = []
    with notes.enqueuing() as ids:
        if notes.ONE_BY_ONE:
            handles = [queue.enqueue(task) for task in tasks]
        elif kind.states:  # whoever wants to know what became of them keeps the handles
            handles = queue.enqueue_all(tasks)
        else:
            queue.enqueue_many(tasks)
        ids += [handle.id for handle in handles]
elif command == "work":
    setup_logger(log_level="INFO")
    Worker(queue, allow=["marks:*"], **kind.worker).run()
else:
    handles = [Handle(queue, id_) for id_ in notes.noted_ids()]
    if kind.returns:
        notes.note_results(handle.result(timeout=0) for handle in handles)
    else:  # the sum is how many there are of those that have succeeded
        notes.note_results(int(handle.status().state is State.SUCCEEDED) for handle in handles)
