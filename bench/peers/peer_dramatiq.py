"""dramatiq: `fill <tasks>`; `work <threads>` in one process."""

import os
import sys

import dramatiq
import marks
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))
mark = dramatiq.actor(marks.mark)

if __name__ == "__main__":
    if sys.argv[1] == "fill":
        for i in range(int(sys.argv[2])):
            mark.send(i)
    else:
        program = [sys.executable, "-m", "dramatiq", "--processes", "1", "--threads", sys.argv[2], "peer_dramatiq"]
        os.execv(sys.executable, program)
