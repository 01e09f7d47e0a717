"""Our own worker and producer, for one kind of bench/kinds.py: `ours_kinds.py <kind> fill <tasks>`, `… work`, `… results`."""

import os
import sys

import notes

from bench.kinds import KINDS
from delayed import Handle, Queue, State, results
from delayed.logger import setup_logger
from delayed.redis.connect import connect
from delayed.supervisor.supervisor import Supervisor
from delayed.worker.options import WorkerOptions, allow_list
from delayed.worker.worker import Worker

kind, command = KINDS[sys.argv[1]], sys.argv[2]
client = connect(os.environ["BENCH_REDIS"])
queues = [Queue(name, client) for name in kind.queues]
if command == "fill":
    count, handles = int(sys.argv[3]), []
    with notes.enqueuing() as ids:
        for place, queue in enumerate(queues):
            tasks = kind.tasks(range(place, count, len(queues)))
            if notes.ONE_BY_ONE:
                handles += [queue.enqueue(task) for task in tasks]
            elif kind.states:  # whoever wants to know what became of them keeps the handles
                handles += queue.enqueue_all(tasks)
            else:
                queue.enqueue_many(tasks)
        ids += [handle.id for handle in handles]
elif command == "work":
    setup_logger(log_level="INFO")
    options = WorkerOptions(queues=queues, allow=allow_list(["marks:*"]), **kind.worker)
    if kind.supervised:
        sys.exit(Supervisor(options, 1, limit=3).run())
    Worker.of(options).run()
else:
    handles = [Handle(queues[0], id_) for id_ in notes.noted_ids()]
    if kind.returns:
        notes.note_results(results(handles, timeout=0))
    else:  # the sum is how many there are of those that have succeeded
        notes.note_results(int(handle.status().state is State.SUCCEEDED) for handle in handles)
