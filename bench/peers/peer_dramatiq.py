"""dramatiq: `fill <tasks>`; `work <threads>` in one process; `results`. Results are off, if not asked for."""

import os
import sys

import dramatiq
import marks
import notes
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=os.environ["BENCH_REDIS"])
dramatiq.set_broker(broker)
if notes.KEPT:
    broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS"]), result_ttl=60_000, store_results=True))
mark = dramatiq.actor(marks.echo if notes.KEPT else marks.mark, actor_name="mark")

if __name__ == "__main__":
    if sys.argv[1] == "fill":
        with notes.enqueuing() as ids:
            for i in range(int(sys.argv[2])):
                ids.append(mark.send(i).message_id)
    elif sys.argv[1] == "results":
        messages = (mark.message(0).copy(message_id=id_) for id_ in notes.noted_ids())
        notes.note_results(message.get_result() for message in messages)
    else:
        program = [sys.executable, "-m", "dramatiq", "--processes", "1", "--threads", sys.argv[2], "peer_dramatiq"]
        os.execv(sys.executable, program)
