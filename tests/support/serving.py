"""The control plane as a process of its own, whose log a test reads."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import aiohttp

from tests.support.product import environment


class Serving:
    """A running `opsfleet serve`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.log: list[dict[str, Any]] = []
        self._more = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    def said(self, words: str) -> list[dict[str, Any]]:
        """Return the events that contain `words`."""
        return [event for event in self.log if words in event["event"]]

    async def says(self, words: str, times: int = 1, seconds: float = 60) -> datetime:
        """Wait until it has logged an event with `words` so many times; return when that was."""
        async with asyncio.timeout(seconds), self._more:
            await self._more.wait_for(lambda: len(self.said(words)) >= times)
        return datetime.fromisoformat(self.said(words)[times - 1]["timestamp"])

    async def status_of(self, path: str) -> int:
        """Return the HTTP status of a GET."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ends(self) -> int:
        """Wait until it has ended; return its exit status."""
        status = await self.process.wait()
        await self._reading
        return status

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": line.decode(errors="replace").rstrip()}
            async with self._more:
                self.log.append(event)
                self._more.notify_all()


@asynccontextmanager
async def serving(dsn: str, **settings: object) -> AsyncIterator[Serving]:
    """Run `opsfleet serve` on the database at `dsn`; what still runs at the end of the block is killed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = environment(
        dsn,
        **{
            "role": "worker",
            "port": port,
            "health_interval": 1,
            "metrics_interval": 1,
            "log_format": "json",
            "log_level": "info",
            **settings,
        },
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "POSTGRES_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "opsfleet",
        "serve",
        env={**kept, **given},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    found = Serving(process, port)
    try:
        yield found
    finally:
        if process.returncode is None:
            process.kill()
        await found.ends()
