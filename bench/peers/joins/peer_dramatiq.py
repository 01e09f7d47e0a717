import os
import sys

import dramatiq
import last
from dramatiq import group
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend

broker = RedisBroker(url=last.URL, heartbeat_timeout=2000, maintenance_chance=1_000_000)
broker.add_middleware(GroupCallbacks(RedisBackend(url=last.URL)))
dramatiq.set_broker(broker)


@dramatiq.actor
def member(number):
    last.member(number)


@dramatiq.actor
def callback():
    last.callback()


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        made = group([member.message(number) for number in range(3)])
        made.add_completion_callback(callback.message())
        made.run()
    else:
        os.execv(sys.executable, [sys.executable, "-m", "dramatiq", "--processes", "1", "--threads", "1", "peer_dramatiq"])
