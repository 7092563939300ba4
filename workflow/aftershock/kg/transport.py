"""One HTTP exchange with a limit on its total time; redirects are not followed."""

import socket
import threading
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPSConnection
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Response:
    """A complete response."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, for messages."""
        return self.body.decode("utf-8", errors="replace")


class Watchdog:
    """Shuts a socket after a total time: a socket's own timeout starts anew with every byte."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self.socket: socket.socket | None = None
        self.timer = threading.Timer(seconds, self.expire)
        self.timer.daemon = True
        self.timer.start()

    def guard(self, opened: socket.socket) -> None:
        """Watch this socket from now on."""
        self.socket = opened
        if self.expired:
            self.expire()

    def expire(self) -> None:
        """Shut the socket: readers get an end of file."""
        self.expired = True
        if self.socket:
            with suppress(OSError):  # already closed
                self.socket.shutdown(socket.SHUT_RDWR)


def send(request: urllib.request.Request, seconds: float) -> Response:
    """The complete response to `request`; TimeoutError when it has not arrived after `seconds`.

    Not urlopen: that follows redirects, and makes a POST a GET without the query on the way.
    """
    address = urlsplit(request.full_url)
    connect = {"http": HTTPConnection, "https": HTTPSConnection}[address.scheme]
    connection = connect(address.hostname, address.port, timeout=seconds)
    watchdog = Watchdog(seconds)
    try:
        connection.connect()
        watchdog.guard(connection.sock)
        target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        connection.request(request.get_method(), target, request.data, dict(request.header_items()))
        response = connection.getresponse()
        whole = Response(response.status, response.headers, response.read())
    except (OSError, HTTPException) as error:
        if watchdog.expired or isinstance(error, TimeoutError):
            raise TimeoutError(f"no whole answer within {seconds:g} s") from error
        raise
    finally:
        watchdog.timer.cancel()
        connection.close()
    if watchdog.expired:
        raise TimeoutError(f"no whole answer within {seconds:g} s")
    return whole
