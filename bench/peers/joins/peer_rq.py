import sys

import last
import redis
from rq import Queue, Retry, Worker

connection = redis.Redis.from_url(last.URL)
queue = Queue("last", connection=connection)

if __name__ == "__main__":
    if sys.argv[1] == "fill":
        members = [queue.enqueue("last.member", number, retry=Retry(max=5)) for number in range(3)]
        queue.enqueue("last.callback", depends_on=members, retry=Retry(max=5))
    else:
        Worker([queue], connection=connection, maintenance_interval=2, job_monitoring_interval=1).work(logging_level="WARNING")
