"""A line between a process and PostgreSQL that a test can freeze, cut and mend."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit


class Relay:
    """Passes on what clients of a TCP port and PostgreSQL's Unix socket say to each other."""

    def __init__(self, dsn: str) -> None:
        url = urlsplit(dsn)
        query = parse_qs(url.query)
        self._socket = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._user, self._database = unquote(url.username or ""), url.path[1:]
        self._flows = asyncio.Event()
        self._flows.set()
        self._cut = False
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self.dsn = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.dsn = f"postgresql://{self._user}@127.0.0.1:{port}/{self._database}?sslmode=disable"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._end_lines()

    def freeze(self) -> None:
        """Let nothing through any more, and tell neither side."""
        self._flows.clear()

    async def cut(self) -> None:
        """End all connections, and every new one at once."""
        self._cut = True
        self._flows.set()
        await self._end_lines()

    def mend(self) -> None:
        """Take connections again."""
        self._cut = False

    async def _end_lines(self) -> None:
        lines = list(self._lines)
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        try:
            if not self._cut:
                async with _unix(self._socket) as (back_reader, back_writer):
                    there = asyncio.create_task(self._pass_on(reader, back_writer))
                    back = asyncio.create_task(self._pass_on(back_reader, writer))
                    try:
                        await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        there.cancel()
                        back.cancel()
                        await asyncio.gather(there, back, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the line is down, which is all there is to it
        finally:
            self._lines.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def _unix(path: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
