"""Connections to a server that stay open between requests: for any number of threads."""

import http.client
import os
import select
import socket
import time
from collections import deque

from .asks import Answer, Ask
from .attempts import Attempts, Place

_IDLE = 16  # connections that are kept


class Connections:
    """Sends requests. Threads may share it, and so may processes that a fork has made.

    Args:
        place: where the server is.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._process = os.getpid()

    def __del__(self) -> None:
        if self._process == os.getpid():
            for connection in self._idle:
                connection.close()

    def ask(self, ask: Ask) -> Answer:
        """The answer to a request, which is sent again if that can do no harm.

        Raises:
            ServerAway: there is none.
        """
        attempts = Attempts(self.place, ask)
        while True:
            connection = self._kept() if ask.repeatable else None
            kept = connection is not None
            if connection is None:
                connection = self._new()
            sent = False
            try:
                connection.timeout = self.place.timeout
                if connection.sock is None:
                    connection.connect()
                connection.sock.settimeout(self.place.timeout + ask.wait)
                sent = True
                answer = self._exchange(connection, ask)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                pause: float | None = attempts.failed(error, sent=sent, kept=kept)
            except BaseException:
                connection.close()
                raise
            else:
                pause = attempts.answered(answer)
                if pause is None:
                    return answer
            time.sleep(pause or 0.0)

    def _exchange(self, connection: http.client.HTTPConnection, ask: Ask) -> Answer:
        connection.request(ask.method, self.place.path + ask.path, ask.body, self.place.headers_of(ask))
        response = connection.getresponse()
        body = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        if connection.sock is not None:  # it stays open
            self._keep(connection)
        return Answer(response.status, body, headers)

    def _new(self) -> http.client.HTTPConnection:
        place = self.place
        if place.tls is None:
            return http.client.HTTPConnection(place.host, place.port)
        return http.client.HTTPSConnection(place.host, place.port, context=place.tls)

    def _kept(self) -> http.client.HTTPConnection | None:
        """A connection that was kept, and that the other side has not closed."""
        if self._process != os.getpid():  # the parent's are its own
            self._idle, self._process = deque(), os.getpid()
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.sock is not None and not _has_news(connection.sock):
                return connection
            connection.close()
        return None

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        if len(self._idle) < _IDLE and self._process == os.getpid():
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close those that are kept; the next request opens others."""
        while (connection := self._kept()) is not None:
            connection.close()


def _has_news(sock: socket.socket) -> bool:
    """Whether something has come that nobody has asked for: mostly that it is closed."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
