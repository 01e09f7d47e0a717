import sys
import threading

import last

from delayed import PyTask, Queue
from delayed.redis.connect import connect
from delayed.sweeper.sweeper import Sweeper
from delayed.worker.worker import Worker
from delayed.workflow import group

queue = Queue("last", connect(last.URL), 0.5, 1)


def member(number):
    return last.member(number)


def callback():
    last.callback()


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        group(PyTask("ours:member", (number,)) for number in range(3)).then(PyTask("ours:callback")).submit(queue)
    else:
        threading.Thread(target=Sweeper([Queue("last", connect(last.URL))], 0.3).run, daemon=True).start()
        Worker(queue, 0.3, allow=["ours:*"]).run()
