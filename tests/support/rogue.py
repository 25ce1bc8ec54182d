"""HTTP(S) servers that misbehave in one chosen way, and count what they see.

    async with rogue.server(rogue.hang_inside_body) as server:
        ...  # server.port, server.requests, server.connections, await server.until(lambda: server.requests == 2)

A behaviour is a coroutine function that gets one accepted connection; what it does not read or answer stays unread and
unanswered. The connection is closed when it returns.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TypeAlias

import trustme

OK_BODY = b'{"status":"ok"}'
INVALID_JSON = b'{"status": "ok", '
NOT_A_NUMBER = b'{"status": "ok", "uptime_seconds": NaN}'
DEEP = b"[" * 100_000 + b"]" * 100_000
WRONG_TYPES = b'{"status": 7, "version": [], "services": "all", "database": {"status": {}}}'


class Client:
    """One accepted connection, as a behaviour sees it."""

    def __init__(self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Return the head of the next request, or nothing when the peer has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        self.server.requests += 1
        self.server.asked.set()
        self.server.heads.append(head)
        self.server.changed()
        return head

    async def send(self, data: bytes) -> None:
        """Send `data` as soon as the peer takes it."""
        self.writer.write(data)
        await self.writer.drain()

    async def until_gone(self) -> None:
        """Wait until the peer closes; what it sends is thrown away."""
        while await self.reader.read(65_536):
            pass

    def reset(self) -> None:
        """End the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour: TypeAlias = Callable[[Client], Awaitable[None]]


class Server:
    """Counts of a running server. `open` connections and `held` requests are those of this moment.

    `asked` is set once a request has come; the behaviours that wait for a test wait for `cue`.
    """

    def __init__(self, behaviour: Behaviour, host: str) -> None:
        self.behaviour = behaviour
        self.host = host
        self.port = 0
        self.connections = 0
        self.requests = 0
        self.open = 0
        self.held = 0
        self.most_held = 0
        self.heads: list[bytes] = []
        self.on_connect: Callable[[], None] = lambda: None
        self.asked = asyncio.Event()
        self.cue = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def until(self, condition: Callable[[], bool], timeout: float = 20.0) -> None:
        """Wait until `condition`, which looks at this server's counts, holds."""
        if condition():
            return
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append((condition, watcher))
        await asyncio.wait_for(watcher, timeout)

    def changed(self) -> None:
        """Let those that wait for a count look again."""
        for condition, watcher in self._watchers:
            if not watcher.done() and condition():
                watcher.set_result(None)
        self._watchers = [pair for pair in self._watchers if not pair[1].done()]

    def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let the behaviour loose on a new connection."""
        self.connections += 1
        self.open += 1
        self.on_connect()
        self.changed()
        task = asyncio.get_running_loop().create_task(self._run(Client(self, reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, client: Client) -> None:
        try:
            with suppress(ConnectionError, ssl.SSLError, asyncio.LimitOverrunError):
                await self.behaviour(client)
        finally:
            self.open -= 1
            self.changed()
            client.writer.close()
            with suppress(OSError):
                await client.writer.wait_closed()

    async def stop(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def server(
    behaviour: Behaviour, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Server]:
    """Run a server with the behaviour on a loopback address."""
    running = Server(behaviour, host)
    listener = await asyncio.start_server(running.accepted, host, port, ssl=tls, backlog=1024)
    running.port = listener.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        listener.close()
        await running.stop()
        await listener.wait_closed()


@contextmanager
def closed_port(host: str = "127.0.0.1") -> Iterator[int]:
    """Reserve a port at which nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        yield sock.getsockname()[1]


def answer(
    body: bytes = OK_BODY, status: str = "200 OK", *headers: str, version: str = "1.1", length: int | None = -1
) -> bytes:
    """Return one whole answer. `length` is the announced one: the true one by default, none when None."""
    lines = [f"HTTP/{version} {status}", "Content-Type: application/json", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


# good behaviour


def answering(data: bytes, *, close: bool = False) -> Behaviour:
    """Answer each request with `data`, in one piece; then keep the connection, or close it."""

    async def behave(client: Client) -> None:
        while await client.request():
            await client.send(data)
            if close:
                return

    return behave


ok = answering(answer())


def status(line: str | int, *headers: str, body: bytes = b"") -> Behaviour:
    """Answer with the status, for example 503 or `503 Service Unavailable`."""
    if isinstance(line, int):
        line = f"{line} {HTTPStatus(line).phrase}"
    return answering(answer(body, line, *headers))


def json(body: bytes) -> Behaviour:
    """Answer 200 with the body, whatever it is."""
    return answering(answer(body))


def healthy() -> Behaviour:
    """Answer that all is well."""
    return ok


def on_cue() -> Behaviour:
    """Answer each request, well, once `server.cue` is set."""

    async def behave(client: Client) -> None:
        while await client.request():
            client.server.held += 1
            client.server.most_held = max(client.server.most_held, client.server.held)
            client.server.changed()
            try:
                await client.server.cue.wait()
            finally:
                client.server.held -= 1
            await client.send(answer())

    return behave


no_content = answering(answer(b"", "204 No Content", length=None))
moved = status("301 Moved Permanently", "Location: /elsewhere")
unauthorized = status("401 Unauthorized", "WWW-Authenticate: Bearer")
broken_inside = status("500 Internal Server Error", body=b"oops")
http10_with_length = answering(answer(version="1.0"), close=True)
http10_without_length = answering(answer(version="1.0", length=None), close=True)
connection_close = answering(answer(OK_BODY, "200 OK", "Connection: close"), close=True)
chunked = answering(
    answer(
        b"6\r\n" + OK_BODY[:6] + b"\r\n9\r\n" + OK_BODY[6:] + b"\r\n0\r\n\r\n",
        "200 OK",
        "Transfer-Encoding: chunked",
        length=None,
    )
)
continue_first = answering(b"HTTP/1.1 100 Continue\r\n\r\n" + answer())
offers_http2 = answering(answer(OK_BODY, "200 OK", "Upgrade: h2,h2c", "Connection: Upgrade, Keep-Alive"))

# resets and closes


async def reset_on_accept(client: Client) -> None:
    """Reset before anything is read."""
    client.reset()


async def reset_after_request(client: Client) -> None:
    """Reset instead of answering."""
    await client.request()
    client.reset()


async def close_after_request(client: Client) -> None:
    """Close instead of answering."""
    await client.request()


async def reset_inside_body(client: Client) -> None:
    """Reset inside the body, when the server is cue."""
    await client.request()
    await client.send(answer()[:-5])
    await client.server.cue.wait()
    client.reset()


async def close_idle(client: Client) -> None:
    """Close a kept connection when the server is cue."""
    await client.request()
    await client.send(answer())
    await client.server.cue.wait()


async def stale(client: Client) -> None:
    """Close the connection, unanswered, at the moment of its second request."""
    await client.request()
    await client.send(answer())
    await client.request()


async def stale_by_reset(client: Client) -> None:
    """Reset the connection at the moment of its second request."""
    await stale(client)
    client.reset()


# hanging


async def hang_before_reading(client: Client) -> None:
    """Accept and do nothing. On a TLS port, without TLS here, this is a handshake that hangs."""
    await client.server.cue.wait()


def hang_after(data: bytes) -> Behaviour:
    """Read the request, send `data` and no more."""

    async def behave(client: Client) -> None:
        await client.request()
        await client.send(data)
        await client.until_gone()

    return behave


def hang_before_headers() -> Behaviour:
    """Read the request and say nothing."""
    return hang_after(b"")


hang_inside_headers = hang_after(b"HTTP/1.1 200 OK\r\nContent-Ty")
hang_inside_body = hang_after(answer()[:-5])
length_too_large_then_hang = hang_after(answer(length=100))


def drip(seconds: float = 1.0) -> Behaviour:
    """Send the answer a byte at a time, one every so many seconds."""

    async def behave(client: Client) -> None:
        await client.request()
        for byte in answer():
            await client.send(bytes([byte]))
            await asyncio.sleep(seconds)

    return behave


# not quite HTTP

length_too_large_then_close = answering(answer(length=100), close=True)
length_too_small = answering(answer(length=5))
chunked_broken = answering(answer(b"zz\r\n{}\r\n", "200 OK", "Transfer-Encoding: chunked", length=None))
chunked_cut = answering(answer(b"f\r\n" + OK_BODY, "200 OK", "Transfer-Encoding: chunked", length=None), close=True)
continue_then_cut = answering(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(length=100), close=True)
big_body = answering(answer(b" " * 2 * 1024 * 1024))
upgrade = answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
two_answers = answering(answer() + answer(b"{}", "500 Internal Server Error"))
answer_and_a_piece = answering(answer() + b"HTTP/1.")


async def banner(client: Client) -> None:
    """Speak first, and another protocol."""
    await client.send(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    await client.until_gone()


async def endless_body(client: Client) -> None:
    """Send a body without length and without end."""
    await client.request()
    await client.send(answer(b"", length=None))
    while True:
        await client.send(b" " * 65_536)


async def endless_headers(client: Client) -> None:
    """Send headers without end."""
    await client.request()
    await client.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await client.send(b"X-More: " + b"x" * 1000 + b"\r\n")


async def endless_interim(client: Client) -> None:
    """Promise an answer without end."""
    await client.request()
    while True:
        await client.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")


async def unasked(client: Client) -> None:
    """Answer, and when the server is cue say more that nobody asked for."""
    await client.request()
    await client.send(answer())
    await client.server.cue.wait()
    await client.send(answer(b"{}", "500 Internal Server Error"))
    await client.until_gone()


# certificates


class Authority:
    """A certificate authority, and contexts of servers that it vouches for, or nearly."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.certificate = self._ca.cert_pem.bytes().decode()

    def context(
        self, *names: str, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> ssl.SSLContext:
        """Return a server's context with a certificate for the names, by default those of this machine's loopback."""
        issued = self._ca.issue_cert(
            *(names or ("127.0.0.1", "::1", "localhost")), not_before=not_before, not_after=not_after
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        return context

    def expired(self) -> ssl.SSLContext:
        """Return a context whose certificate was valid until 1 March 2020."""
        end = datetime(2020, 3, 1, tzinfo=UTC)
        return self.context(not_before=end - timedelta(days=90), not_after=end)

    def not_yet_valid(self) -> ssl.SSLContext:
        """Return a context whose certificate is valid from next year on."""
        start = datetime.now(UTC) + timedelta(days=365)
        return self.context(not_before=start, not_after=start + timedelta(days=90))
