"""One keep-alive HTTP/1.1 connection, driven by callbacks alone."""

import asyncio
from time import perf_counter
from typing import Protocol, cast

import httptools

from opsfleet.polling.outcome import Fault, FaultKind

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024


class ConnectionOwner(Protocol):
    """What a connection tells the one that made it. Exactly one call ends each request."""

    def answered(self, connection: "Connection") -> None:
        """The whole answer is in `connection.status`, `connection.take_body()` and `connection.elapsed`."""

    def failed(self, connection: "Connection", fault: Fault, *, stale: bool) -> None:
        """No usable answer. `stale` says that a kept connection died before the first byte, so a repeat is safe."""

    def opened(self) -> None:
        """A connection was made."""

    def closed(self, connection: "Connection") -> None:
        """The connection is gone; told once, whether it was in use or idle."""


class Connection(asyncio.Protocol):
    """Sends one request at a time and tells its owner what came back.

    No task, future or timer belongs to a request: the owner watches the deadline and calls `abort`.
    """

    __slots__ = (
        "_body",
        "_complete",
        "_head",
        "_head_complete",
        "_keep_alive",
        "_more",
        "_owner",
        "_parser",
        "_received",
        "_transport",
        "busy",
        "elapsed",
        "requests",
        "sent_at",
        "status",
    )

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._more: list[bytes] | None = None
        self._head = b""
        self._received = 0
        self._head_complete = False
        self._complete = False
        self._keep_alive = False
        self.busy = False
        self.requests = 0
        self.status = 0
        self.sent_at = 0.0
        self.elapsed = 0.0

    @property
    def phase(self) -> str:
        """How far the answer has come: `waiting`, `head` or `body`."""
        if self._head_complete:
            return "body"
        return "head" if self._head else "waiting"

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether the server will take another request after the answer just read."""
        return self._keep_alive and self.is_open

    def take_body(self) -> bytes:
        """Return the body of the answer just read, and keep nothing of the answer while the connection is idle."""
        body = self._body if self._more is None else self._body + b"".join(self._more)
        self._body = self._head = b""
        self._more = None
        return body

    def send(self, request: bytes) -> None:
        """Send a whole request; the answer goes to the owner. The connection must be open and not busy."""
        assert self._transport is not None
        self.busy = True
        self.requests += 1
        self._received = 0
        self._head_complete = False
        self._complete = False
        self._keep_alive = False
        self.sent_at = perf_counter()
        self._transport.write(request)

    def abort(self) -> None:
        """Drop the connection at once; a request on it ends without a word to the owner."""
        self.busy = False
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._owner.opened()

    def data_received(self, data: bytes) -> None:
        """Feed the parser and end the request when its answer is whole or impossible."""
        if not self.busy:
            # Nobody asked: what came cannot be matched to a request, now or later.
            self.abort()
            return
        if not self._head_complete:
            self._head = self._head + data if self._head else data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._parser_failed(error)
            return
        if self._complete:
            self._answer()
        elif self._received > MAX_BODY_BYTES:
            self._fail(Fault(FaultKind.TOO_LARGE, "body over 1 MiB", {"limit_bytes": MAX_BODY_BYTES, "part": "body"}))
        elif not self._head_complete and len(self._head) > MAX_HEAD_BYTES:
            self._fail(
                Fault(FaultKind.TOO_LARGE, "headers over 64 KiB", {"limit_bytes": MAX_HEAD_BYTES, "part": "head"})
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """End the request under way, if any."""
        self._transport = None
        if self.busy:
            self._lost_in_use(exc)
        self._owner.closed(self)

    # httptools

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request, before it can get into the first."""
        if self._complete:
            raise ValueError("more came than one answer")

    def on_headers_complete(self) -> None:
        """Note the status; interim answers (1xx) are skipped."""
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self._head_complete = True

    def on_body(self, chunk: bytes) -> None:
        """Keep a piece of the body."""
        self._received += len(chunk)
        if not self._body:
            self._body = chunk
        elif self._received <= MAX_BODY_BYTES:
            if self._more is None:
                self._more = []
            self._more.append(chunk)

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        # An interim answer (1xx) is a message of its own before the real one.
        self._complete = self._head_complete
        # The parser knows this only now: it starts afresh with the next byte.
        self._keep_alive = self._parser.should_keep_alive()

    # what a request comes to

    def _answer(self) -> None:
        self.elapsed = perf_counter() - self.sent_at
        if self._received > MAX_BODY_BYTES:
            self._fail(Fault(FaultKind.TOO_LARGE, "body over 1 MiB", {"limit_bytes": MAX_BODY_BYTES, "part": "body"}))
            return
        self.busy = False
        self._owner.answered(self)

    def _fail(self, fault: Fault, *, stale: bool = False) -> None:
        self.abort()
        self._owner.failed(self, fault, stale=stale)

    def _parser_failed(self, error: Exception) -> None:
        if self._complete:
            # More came than was announced: the answer stands, the connection does not.
            if self._transport is not None:
                self._transport.abort()
            self._answer()
            return
        if isinstance(error, httptools.HttpParserUpgrade):
            self._fail(Fault(FaultKind.PROTOCOL, "not an HTTP answer: it changed the protocol"))
            return
        where = "in its body" if self._head_complete else "in its head"
        self._fail(Fault(FaultKind.PROTOCOL, f"not a valid HTTP answer, {where}", {"reason": str(error)}))

    def _lost_in_use(self, exc: Exception | None) -> None:
        nothing_came = not self._head
        stale = nothing_came and self.requests > 1
        if exc is None and self._head_complete and self._ends_with_connection():
            self._complete = True
            self._answer()
            return
        if nothing_came:
            word = "connection closed without an answer" if exc is None else "connection reset"
            fault = Fault(FaultKind.RESET, word)
        else:
            part = "body" if self._head_complete else "head"
            facts = {"part": part, "received_bytes": self._received if self._head_complete else len(self._head)}
            how = "closed" if exc is None else "reset"
            fault = Fault(FaultKind.TRUNCATED, f"answer truncated: connection {how} inside its {part}", facts)
        self._fail(fault, stale=stale)

    def _ends_with_connection(self) -> bool:
        """Say whether the body has no length of its own, so that its end is the connection's (RFC 9112, 6.3)."""
        head, _, rest = self._head.lower().partition(b"\r\n\r\n")
        while head[8:10] == b" 1":  # interim answers come before the one that counts
            head, _, rest = rest.partition(b"\r\n\r\n")
        return b"\ncontent-length:" not in head and b"\ntransfer-encoding:" not in head
