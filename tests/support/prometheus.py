"""Debian's Prometheus and node_exporter as processes of a test's own, on free loopback ports."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

NODE_EXPORTER = "prometheus-node-exporter"
PROMETHEUS = "prometheus"

_LISTENING = re.compile(rb'msg="Listening on" address=(\S+)')


def requires(program: str) -> pytest.MarkDecorator:
    """Skip a test where the Debian package of that program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"Debian's {program} is not installed")


@asynccontextmanager
async def _running(program: str, *flags: str) -> AsyncIterator[str]:
    """Run a program until the end of the block; lends its host and port, as soon as it listens."""
    process = await asyncio.create_subprocess_exec(
        program, *flags, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        lines: list[bytes] = []
        async for line in process.stderr:
            lines.append(line)
            if found := _LISTENING.search(line):
                # What is not read would block it some day.
                reading = asyncio.create_task(process.stderr.read())
                yield found[1].decode()
                break
        else:
            raise AssertionError(f"{program} ended: {b''.join(lines[-5:]).decode()}")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        if reading is not None:
            await reading
        await process.wait()


@asynccontextmanager
async def node_exporter(*flags: str, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Run a node_exporter; lends its address, such as 127.0.0.1:36273."""
    async with _running(NODE_EXPORTER, f"--web.listen-address={address}", *flags) as listening:
        yield listening


@asynccontextmanager
async def prometheus(configuration: str, folder: Path) -> AsyncIterator[str]:
    """Run a Prometheus that keeps its data in `folder`; lends its address."""
    file = folder / "prometheus.yml"
    file.write_text(configuration)
    flags = (f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}", "--web.listen-address=127.0.0.1:0")
    async with _running(PROMETHEUS, *flags) as listening:
        yield listening
