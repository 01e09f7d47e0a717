import sys

import last
from huey import RedisHuey, chord

huey = RedisHuey("last", url=last.URL)


@huey.task()
def member(number):
    return last.member(number)


@huey.task()
def callback(_results):
    last.callback()


if sys.argv[1] == "fill":
    huey.enqueue(chord([member.s(number) for number in range(3)], callback.s()))
else:
    huey.create_consumer(workers=1).run()
