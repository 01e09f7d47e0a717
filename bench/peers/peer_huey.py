"""huey: `fill <tasks>`; `work <kind> <workers>`; `results`. Results are off, if not asked for."""

import logging
import os
import sys

import marks
import notes
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"], results=notes.KEPT)
mark = huey.task()(marks.echo if notes.KEPT else marks.mark)

if sys.argv[1] == "fill":
    with notes.enqueuing() as ids:
        for i in range(int(sys.argv[2])):
            task = mark(i)
            if notes.KEPT:
                ids.append(task.id)
elif sys.argv[1] == "results":
    notes.note_results(huey.result(id_) for id_ in notes.noted_ids())
else:
    logging.basicConfig(level=logging.WARNING)
    huey.create_consumer(worker_type=sys.argv[2], workers=int(sys.argv[3])).run()
