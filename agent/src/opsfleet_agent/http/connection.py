"""One connection of a caller: HTTP/1.1 with keep-alive, one request at a time."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

import httptools

from opsfleet_agent.http.gate import Gate
from opsfleet_agent.http.limits import Limits
from opsfleet_agent.http.messages import Request, Response, problem
from opsfleet_agent.http.tls import Tls, TlsError
from opsfleet_agent.log import logger


class Owner(Protocol):
    """What a connection tells the one that keeps it."""

    def opened(self, connection: "Connection") -> None:
        """The connection begins."""

    def closed(self, connection: "Connection") -> None:
        """The connection is gone; told once."""


class _TooEarlyError(Exception):
    """A second request began before the first was answered."""


class Connection(asyncio.Protocol):
    """Takes requests in, gives them to `answer`, and sends what it returns.

    The token is looked at as soon as the head of a request is there, so a stranger's body is never taken in. After a
    refusal, an error or bytes of a second request before the first is answered, the connection is closed: HTTP allows
    that, a careful caller repeats, and there is never anything to queue.
    """

    def __init__(
        self,
        owner: Owner,
        gate: Gate,
        answer: Callable[[Request], Awaitable[Response]],
        limits: Limits,
        context: ssl.SSLContext | None,
    ) -> None:
        self._owner = owner
        self._gate = gate
        self._answer = answer
        self._limits = limits
        self._tls = Tls(context) if context is not None else None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._ending = False
        self.known = False
        """Whether the caller presented an accepted token."""
        self._begin()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._running is not None

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._begun = False
        self._fed_bytes = 0
        self._method = ""
        self._head_complete = False
        self._complete = False
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._refusal: Response | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the whole first request has to arrive in time."""
        self._transport = cast("asyncio.Transport", transport)
        self._wait(self._limits.arrival)
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, whoever caused it. An answer in the making is dropped."""
        self._wait(None)
        if self._running is not None:
            self._running.cancel()
        self._transport = None
        # The parser and this object hold each other.
        del self._parser
        self._owner.closed(self)

    def eof_received(self) -> bool:
        """Keep the connection for an answer in the making; a caller may close its side after its request."""
        self._ending = True
        return self._running is not None

    def data_received(self, data: bytes) -> None:
        """Take bytes in."""
        if self._tls is not None:
            try:
                data = self._tls.receive(data)
            except TlsError as error:
                logger.debug("TLS with %s failed: %s", self._caller(), error)
                self._send(b"")
                self.abort(flush=True)
                return
            self._send(b"")
        if self._ending or not data:
            return
        if self._running is not None:
            self._ending = True
            return
        if not self._begun:
            self._begun = True
            self._wait(self._limits.arrival)
        self._feed(data)

    # the parser's side

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target in."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header in. Of a header that comes twice the last counts, except that two tokens are none."""
        name = name.lower()
        if self._head_complete:  # a trailer
            return
        if name == b"authorization" and name in self._headers:
            value = b""
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Decide by the head alone whether the body is worth taking in."""
        self._head_complete = True
        self._method = self._parser.get_method().decode("ascii")
        self._refusal = self._gate.refusal(self._headers.get(b"authorization"), self._caller())
        if self._refusal is not None:
            return
        self.known = True
        length = self._headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limits.body:
            self._refusal = self._too_large()
        elif self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body in."""
        if self._refusal is None:
            self._body += body

    def on_message_begin(self) -> None:
        """Stop the parser at a second request that came before the first was answered."""
        if self._complete:
            raise _TooEarlyError

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._complete = True
        if not self._parser.should_keep_alive():
            self._ending = True

    # own steps

    def _feed(self, data: bytes) -> None:
        try:
            while data and not self._complete and self._refusal is None:
                # By all bytes, since chunk extensions and trailers are not in the body.
                room = self._limits.head + (self._limits.body if self._head_complete else 0) - self._fed_bytes
                if room <= 0:
                    self._refusal = self._too_large() if self._head_complete else self._head_too_large()
                    break
                piece, data = data[:room], data[room:]
                self._fed_bytes += len(piece)
                self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # An upgrade is an offer (RFC 9110, section 7.8); what follows the request is no HTTP/1.1 for sure.
            self._ending = True
            if not self._complete:
                self._refusal = self._refusal or self._malformed()
        except httptools.HttpParserError:
            self._ending = True
            if not self._complete:
                self._refusal = self._refusal or self._malformed()
        if data:
            self._ending = True
        if self._refusal is not None:
            self._finish(self._refusal, last=True)
        elif self._complete:
            self._wait(None)
            self._running = self._loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            response = await self._answer(self._request())
        except httptools.HttpParserInvalidURLError:
            response = self._malformed()
        except Exception:
            logger.exception("a request could not be answered")
            response = problem(500, "internal_error", "The agent could not answer; its log says why.")
        self._running = None
        self._finish(response, last=self._ending)

    def _request(self) -> Request:
        url = httptools.parse_url(self._url)
        path = url.path.decode("ascii", "replace") if url.path else "/"
        return Request(self._method, path, self._headers, bytes(self._body))

    def _finish(self, response: Response, *, last: bool) -> None:
        self._send(response.to_bytes(keep_alive=not last, head_only=self._method == "HEAD"))
        if last:
            self._close(linger=not self._complete)
        else:
            self._begin()
            self._wait(self._limits.idle)

    def _send(self, plain: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._tls is not None:
            try:
                self._tls.send(plain)
            except TlsError:
                self.abort()
                return
            plain = self._tls.unsent()
        if plain:
            self._transport.write(plain)
        # Somebody asks and asks and never reads.
        if self._transport.get_write_buffer_size() > self._limits.unsent:
            self.abort()

    def end(self) -> None:
        """Close as soon as no request is being answered."""
        self._ending = True
        if self._running is None:
            self.close()

    def close(self) -> None:
        """Close after what was sent; whoever does not take it in time loses it."""
        self._close(linger=False)

    def _close(self, *, linger: bool) -> None:
        self._ending = True
        if self._transport is None or self._transport.is_closing():
            return
        if self._tls is not None:
            self._tls.end()
            self._transport.write(self._tls.unsent())
        if linger:
            # Closing while bytes still come in resets the connection, and the caller may never see the answer
            # (RFC 9112, section 9.6).
            self._wait(self._limits.linger)
            self._transport.write_eof()
        else:
            self._wait(self._limits.arrival)
            self._transport.close()

    def abort(self, *, flush: bool = False) -> None:
        """Close at once, or with `flush` after what was sent."""
        self._ending = True
        if self._transport is not None:
            if flush:
                self._wait(self._limits.arrival)
                self._transport.close()
            else:
                self._transport.abort()

    def _wait(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, self.abort) if seconds is not None else None

    def _too_large(self) -> Response:
        return problem(413, "too_large", f"A body has at most {self._limits.body} bytes.")

    def _head_too_large(self) -> Response:
        return problem(431, "head_too_large", f"The head of a request has at most {self._limits.head} bytes.")

    def _malformed(self) -> Response:
        return problem(400, "malformed", "This is not an HTTP/1.1 request for a path.")

    def _caller(self) -> str:
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(peer[0]) if peer else "somebody"
