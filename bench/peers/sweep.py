"""A Python sweeper of ours as it comes: `sweep.py <queue>...`."""

import os
import sys

from delayed import Queue
from delayed.logger import setup_logger
from delayed.redis.connect import connect
from delayed.sweeper.sweeper import Sweeper

setup_logger(log_level="INFO")
client = connect(os.environ["BENCH_REDIS"])
Sweeper([Queue(name, client) for name in sys.argv[1:]]).run()
