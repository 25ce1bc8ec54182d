"""One accepted connection of a simulated server."""

import socket
import struct
from asyncio import TimerHandle
from collections import deque
from contextlib import suppress
from typing import Protocol

from opsfleet.simulate.machine import Machine
from opsfleet.simulate.requests import BadRequestError, Request, RequestReader
from opsfleet.simulate.rules import Rule

_READ_BYTES = 4096
_MAX_QUEUED = 100
_DONTWAIT = socket.MSG_DONTWAIT
_ABORT = struct.pack("ii", 1, 0)


class Station:
    """A simulated server: its machine, and the rules that apply to it, the strongest first."""

    __slots__ = ("index", "machine", "rules")

    def __init__(self, index: int, machine: Machine, rules: tuple[Rule, ...]) -> None:
        self.index = index
        self.machine = machine
        self.rules = rules


class Answerer(Protocol):
    """What answers the requests of a connection."""

    authorization: bytes

    def answer(self, connection: "Connection", request: Request) -> None:
        """Answer a request; `connection.reply` or `connection.done` ends the answer."""

    def refuse(self, connection: "Connection") -> None:
        """Answer what is no request."""


class Watcher(Protocol):
    """What calls a connection when its socket is ready."""

    def watch(self, connection: "Connection", *, writes: bool) -> None:
        """Call `writable` too from now on, or no longer."""

    def closed(self, connection: "Connection") -> None:
        """The connection is about to close its socket."""


class Connection:
    """Reads requests one at a time and sends answers.

    The sockets are blocking ones used with MSG_DONTWAIT, which saves a system call for each connection.
    """

    __slots__ = (
        "_answerer",
        "_closing",
        "_complete",
        "_health_request",
        "_metrics_request",
        "_out",
        "_queue",
        "_reader",
        "_sock",
        "_watcher",
        "busy",
        "fd",
        "station",
        "timer",
    )

    def __init__(self, watcher: Watcher, answerer: Answerer, sock: socket.socket, station: Station) -> None:
        self._watcher = watcher
        self._answerer = answerer
        self._sock = sock
        self.fd = sock.fileno()
        self.station = station
        self.busy = False
        self.timer: TimerHandle | None = None
        # The bytes of the last request of each kind: the same bytes again are the same request and need no parser.
        self._health_request: tuple[bytes, Request] | None = None
        self._metrics_request: tuple[bytes, Request] | None = None
        self._reader: RequestReader | None = None
        self._queue: deque[Request] | None = None
        self._out: memoryview | None = None
        self._closing = False
        self._complete = False

    @property
    def is_open(self) -> bool:
        """Whether something can still be sent."""
        return self.fd >= 0

    def readable(self) -> None:
        """Read what came and answer it; nothing means that the client closed."""
        try:
            data = self._sock.recv(_READ_BYTES, _DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self.busy and self._reader is None:
            known = self._health_request
            if known is not None and data == known[0]:
                self.busy = True
                self._answerer.answer(self, known[1])
                return
            known = self._metrics_request
            if known is not None and data == known[0]:
                self.busy = True
                self._answerer.answer(self, known[1])
                return
        if data:
            self._parse(data)
        else:
            self.close()

    def _parse(self, data: bytes) -> None:
        if self._closing:
            return
        fresh = self._reader is None
        if self._reader is None:
            self._reader = RequestReader(self._answerer.authorization)
        try:
            requests = self._reader.feed(data)
        except BadRequestError:
            self.busy = True
            self._answerer.refuse(self)
            return
        if self._reader.between:
            self._reader = None
        if self._reader is None and fresh and len(requests) == 1 and requests[0].keep_alive:
            if requests[0].endpoint == "health":
                self._health_request = (data, requests[0])
            elif requests[0].endpoint == "metrics":
                self._metrics_request = (data, requests[0])
        if requests:
            self._enqueue(requests)

    def _enqueue(self, requests: list[Request]) -> None:
        if not self.busy and len(requests) == 1:
            self.busy = True
            self._answerer.answer(self, requests[0])
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.extend(requests)
        if len(self._queue) > _MAX_QUEUED:
            self.reset()
        elif not self.busy:
            self._next()

    def _next(self) -> None:
        # Each answer that is complete at once comes back here through `done`.
        if self._queue:
            self.busy = True
            self._answerer.answer(self, self._queue.popleft())

    def reply(self, data: bytes) -> None:
        """Send a whole answer and take the next request."""
        self.send(data)
        if self._out is None and not self._queue:
            self.busy = False
        else:
            self.done()

    def send(self, data: bytes) -> None:
        """Send `data`; what the kernel does not take at once goes out later."""
        if self._out is not None:
            self._out = memoryview(bytes(self._out) + data)
            return
        try:
            sent = self._sock.send(data, _DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            self._out = memoryview(data)[sent:]
            self._watcher.watch(self, writes=True)

    def writable(self) -> None:
        """Go on sending."""
        if self._out is None:
            return
        try:
            sent = self._sock.send(self._out, _DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._out = self._out[sent:]
        if not self._out:
            self._out = None
            self._watcher.watch(self, writes=False)
            if self._complete:
                self._settle()

    def done(self, *, close: bool = False) -> None:
        """End the answer: close the connection once all is sent, or take the next request."""
        self._closing = close
        self._complete = True
        if self._out is None:
            self._settle()

    def _settle(self) -> None:
        self._complete = False
        if self._closing:
            self.close()
            return
        self.busy = False
        if self._queue:
            self._next()

    def close(self) -> None:
        """Close in the ordinary way."""
        if not self.is_open:
            return
        self._watcher.closed(self)
        self.fd = -1
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self._queue = self._out = None
        self._sock.close()

    def reset(self) -> None:
        """Close so that the client sees a reset."""
        if self.is_open:
            with suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            self.close()
