"""The commands as people run them: processes of their own, with an environment, an exit code and two streams."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec

SECONDS = 60.0
"""No command takes that long."""

OURS = ("FLEET_", "DATABASE_", "POSTGRES_")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def printed(self) -> str:
        """What it printed; it must have succeeded without a complaint."""
        assert (self.status, self.err) == (0, ""), self
        return self.out

    @property
    def json(self) -> Any:
        """The JSON that it printed; it must have succeeded without a complaint."""
        return msgspec.json.decode(self.printed)

    @property
    def complaint(self) -> str:
        """The one line that it failed with."""
        assert self.status != 0, self
        assert self.err.startswith("opsfleet: "), self
        assert self.err.count("\n") == 1, self
        return self.err


@asynccontextmanager
async def process(
    *arguments: str, settings: Mapping[str, str], stdin: int = asyncio.subprocess.DEVNULL, merged: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `opsfleet` with these settings and no others; it is ended unless it did that itself in the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "opsfleet", *arguments),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if merged else asyncio.subprocess.PIPE,
        env={**environment, **settings},
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.terminate()  # so that it ends its own children, too
        try:
            await asyncio.wait_for(running.communicate(), SECONDS)
        except TimeoutError:
            running.kill()
            await running.wait()


async def opsfleet(*arguments: str, settings: Mapping[str, str], stdin: str = "") -> Ran:
    """Run one command to its end."""
    async with asyncio.timeout(SECONDS), process(*arguments, settings=settings, stdin=asyncio.subprocess.PIPE) as child:
        out, err = await child.communicate(stdin.encode())
        assert child.returncode is not None
        return Ran(child.returncode, out.decode(), err.decode())
