"""One listening socket and all its connections, watched by one epoll inside the running event loop.

Neither transports nor handles of the loop stand behind a connection, which makes a request about as cheap as its two
system calls and a connection about as small as its socket.
"""

import asyncio
import errno
import select
import socket
from collections.abc import Callable
from contextlib import suppress

from opsfleet.simulate.connection import Connection

BACKLOG = 65_535
_EVENTS_AT_ONCE = 512
_ACCEPTS_AT_ONCE = 256
_RETRY_SECONDS = 0.1
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def open_listener(port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens on `port` of every loopback address; 0 takes a free port.

    `shared` lets other sockets of this user listen on single addresses of the same port.

    Raises:
        OSError: when the port is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Kernels before 5.7 want a privilege for it. No stranger gets an answer even so: only connections whose own
        # address is a simulated server's are kept.
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        sock.bind(("0.0.0.0", port))  # noqa: S104 - one socket for all of 127.0.0.0/8, and for nothing else
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class Hub:
    """Accepts connections and calls them when their sockets are ready.

    `welcome` is given the hub, an accepted socket and its own address and returns the connection, or None when it has
    closed the socket itself.
    """

    def __init__(
        self, listener: socket.socket, welcome: Callable[["Hub", socket.socket, str], Connection | None]
    ) -> None:
        self._listener = listener
        self._welcome = welcome
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._paused: asyncio.TimerHandle | None = None
        self.accepted = 0
        self.pauses = 0
        """How often accepting had to wait because no descriptor was left."""
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def close(self) -> None:
        """Close every connection and accept no more; the listener is its owner's to close."""
        self._loop.remove_reader(self._epoll.fileno())
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        for connection in list(self._connections.values()):
            connection.close()
        self._epoll.close()

    def watch(self, connection: Connection, *, writes: bool) -> None:
        """Call `writable` of a connection too from now on, or no longer."""
        self._epoll.modify(connection.fd, select.EPOLLIN | (select.EPOLLOUT if writes else 0))

    def closed(self, connection: Connection) -> None:
        """Forget a connection; closing its socket ends the watch."""
        self._connections.pop(connection.fd, None)
        if self._paused is not None:
            self._resume()

    def _ready(self) -> None:
        connections = self._connections
        for fd, events in self._epoll.poll(0, _EVENTS_AT_ONCE):
            connection = connections.get(fd)
            if connection is None:
                if fd == self._listener.fileno():
                    self._accept()
            elif events & select.EPOLLOUT:
                connection.writable()
            else:
                connection.readable()

    def _accept(self) -> None:
        accept = self._listener.accept
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, _ = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause()
                    return
                # The client gave up before it was accepted.
                continue
            self.accepted += 1
            try:
                connection = self._welcome(self, sock, sock.getsockname()[0])
            except OSError:
                sock.close()
                continue
            if connection is not None:
                self._connections[connection.fd] = connection
                self._epoll.register(connection.fd, select.EPOLLIN)

    def _pause(self) -> None:
        # The listener stays readable: watching it without a free descriptor would only burn time.
        self.pauses += 1
        self._epoll.unregister(self._listener.fileno())
        self._paused = self._loop.call_later(_RETRY_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
