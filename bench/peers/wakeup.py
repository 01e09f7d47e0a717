"""What an idle worker must do at least: one BLPOP that wakes it, one script, then the first line of the task."""

import mmap
import os
import socket
import time
from urllib.parse import urlsplit

import hiredis

with open(os.environ["BENCH_MARKS"], "r+b") as _file:
    times = memoryview(mmap.mmap(_file.fileno(), 0)).cast("q")

address = urlsplit(os.environ["BENCH_REDIS"])
sock = socket.create_connection((address.hostname, address.port))
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
reader = hiredis.Reader(notEnoughData=Ellipsis)


def call(packed):
    sock.sendall(packed)
    answer = reader.gets()
    while answer is ...:
        reader.feed(sock.recv(65536))
        answer = reader.gets()
    return answer


script = call(hiredis.pack_command(("SCRIPT", "LOAD", "return redis.call('LPOP', KEYS[1])")))
pop = hiredis.pack_command(("BLPOP", "bench_noti", 0))
take = hiredis.pack_command(("EVALSHA", script, 1, "bench"))
while True:
    call(pop)
    i = int(call(take))
    times[i] = time.monotonic_ns()
