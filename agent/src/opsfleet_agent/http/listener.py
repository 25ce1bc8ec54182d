"""Listening, and keeping count of connections."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from opsfleet_agent.http.connection import Connection
from opsfleet_agent.http.gate import Gate
from opsfleet_agent.http.limits import Limits
from opsfleet_agent.http.messages import Request, Response

BACKLOG = 64


class Listener:
    """Takes connections and keeps at most `limits.connections` of them.

    When one too many comes, the oldest goes that never presented an accepted token; when there is none, the new one.
    So strangers can crowd out each other, and not the control plane's kept connection.
    """

    def __init__(
        self,
        gate: Gate,
        answer: Callable[[Request], Awaitable[Response]],
        *,
        limits: Limits | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._gate = gate
        self._answer = answer
        self._limits = limits or Limits()
        self._context = context
        self._server: asyncio.Server | None = None
        self._connections: dict[Connection, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port, which matters when `port` is 0; raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, host, port, backlog=BACKLOG)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def use(self, context: ssl.SSLContext | None) -> None:
        """Let new connections use these TLS settings."""
        self._context = context

    async def stop(self) -> None:
        """Take no more connections, let running requests end, and close everything."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end()
        try:
            async with asyncio.timeout(self._limits.stop):
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            await self._empty.wait()

    def opened(self, connection: Connection) -> None:
        """Count a connection, and make room for it if need be."""
        self._connections[connection] = None
        self._empty.clear()
        if len(self._connections) > self._limits.connections:
            stranger = next((kept for kept in self._connections if not kept.known), connection)
            # At once, for many may come before the first of them is gone.
            del self._connections[stranger]
            stranger.abort()

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)
        if not self._connections:
            self._empty.set()

    def _connection(self) -> Connection:
        return Connection(self, self._gate, self._answer, self._limits, self._context)
