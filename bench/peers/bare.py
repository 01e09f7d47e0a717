"""What Python can reach at most on our key layout: take 128 by `take.lua`, run each and end its lease at once by an HDEL whose
reply is read with the next take. No heartbeat, no allow-list, no counters, no fence, no errors.
"""

import os
import socket
from urllib.parse import urlsplit

import hiredis
import marks
import msgpack

from delayed.redis.scripts import SCRIPTS

SIZE = 128

address = urlsplit(os.environ["BENCH_REDIS"])
sock = socket.create_connection((address.hostname, address.port))
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
reader = hiredis.Reader(notEnoughData=Ellipsis)
pack, unpack = hiredis.pack_command, msgpack.unpackb


def reply():
    answer = reader.gets()
    while answer is ...:
        reader.feed(sock.recv(65536))
        answer = reader.gets()
    return answer


names = [f"bench_lease_bare_{i}" for i in range(SIZE)]
endings = [pack(("HDEL", "bench_processing", name)) for name in names]
keys = ("bench", "bench_noti", "bench_processing", "bench_lost", *names)
first, take = (pack(SCRIPTS["take"].command(keys, (0, "notified", living, "bare", 10000))) for living in (0, SIZE))
functions = {"marks:mark": marks.mark}

sock.sendall(b"".join(pack(("SCRIPT", "LOAD", script.source)) for script in SCRIPTS.values()))
for _ in SCRIPTS:
    reply()
count = 0
while True:
    sock.sendall(first)
    first = take  # from now on the leases have their keys
    for _ in range(count):
        reply()
    tasks = reply()[1:]
    count = len(tasks)
    if not tasks:
        break
    for data, ending in zip(tasks, endings, strict=False):
        path, args = unpack(data)
        functions[path](*args)
        sock.sendall(ending)
