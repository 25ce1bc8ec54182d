"""Starting the product and what it is measured against, each pinned to a core."""

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from benchmarks import machine

TOKEN = "benchmark-admin-token"
FLEET_TOKEN = "simulated-token"
FLEET_PORT = 19101
PORT = 18080
PRODUCT_CORE = 0
FLEET_CORE = 1
DESCRIPTORS = 20_000
"""How many files and connections the product may have open, whatever this machine allows."""


@asynccontextmanager
async def child(
    command: list[str], core: int, *, env: dict[str, str] | None = None, log: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command on one core until the end of the block."""
    out = log.open("wb") if log else None
    process = await asyncio.create_subprocess_exec(
        *machine.pinned(core),
        *command,
        stdout=out or asyncio.subprocess.DEVNULL,
        stderr=out or asyncio.subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 60)
            except TimeoutError:
                process.kill()
                await process.wait()
        if out:
            out.close()


async def listening(port: int, seconds: float = 60) -> None:
    """Wait until something on this machine listens on `port`."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def fleet(servers: int, scenario: str = "calm", *, port: int = FLEET_PORT) -> AsyncIterator[None]:
    """Run the simulated fleet on its core."""
    command = [sys.executable, "-m", "opsfleet", "simulate", "--servers", str(servers), "--base-port", str(port)]
    command += ["--token", FLEET_TOKEN, "--scenario", scenario]
    async with child(command, FLEET_CORE):
        await listening(port)
        yield


class Product:
    """A running `opsfleet serve` with its embedded PostgreSQL."""

    def __init__(
        self, process: asyncio.subprocess.Process, log: Path, session: aiohttp.ClientSession, data_dir: Path
    ) -> None:
        self.pid = process.pid
        self._dsn = f"postgresql:///opsfleet?host={data_dir}/postgres/run&user=opsfleet"
        self._process = process
        self._log = log
        self._session = session

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API."""
        async with self._session.request(method, f"http://127.0.0.1:{PORT}{path}", json=body) as response:
            answer = await response.json()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {response.status} {answer}")
            return answer

    async def import_servers(self, rows: list[dict[str, Any]]) -> None:
        """Register servers."""
        for start in range(0, len(rows), 50_000):
            await self.call("POST", "/api/v1/fleet/servers/import", {"servers": rows[start : start + 50_000]})

    async def fetch(self, query: str) -> list[Any]:
        """Ask the embedded database, as root may."""
        connection = await asyncpg.connect(self._dsn)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def health_worker(self) -> dict[str, Any]:
        """Return the health worker's statistics of this moment."""
        found = await self.call("GET", "/api/v1/fleet/workers/status")
        statistics: dict[str, Any] = found["health_worker"]
        return statistics

    async def counted(self) -> float:
        """Return the number of checks performed, from the process itself."""
        async with self._session.get(f"http://127.0.0.1:{PORT}/metrics") as response:
            text = await response.text()
        found = re.search(r"^opsfleet_health_checks_total (\S+)", text, re.MULTILINE)
        assert found is not None
        return float(found.group(1))

    def cycles(self) -> list[tuple[int, float]]:
        """Return servers and seconds of the cycles completed so far, from the log."""
        text = self._log.read_text(errors="replace")
        return [(int(n), float(s)) for n, s in re.findall(r"complete: (\d+) servers checked in ([\d.]+)s", text)]


@asynccontextmanager
async def product(**settings: str) -> AsyncIterator[Product]:
    """Run the product on its core, with `FLEET_<name>` settings, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="opsfleet-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        log = Path(folder) / "serve.log"
        env = {
            "FLEET_DATA_DIR": str(Path(folder) / "data"),
            "FLEET_PORT": str(PORT),
            "FLEET_BOOTSTRAP_ADMIN_TOKEN": TOKEN,
            "FLEET_LOG_FORMAT": "console",
            **{f"FLEET_{name.upper()}": value for name, value in settings.items()},
        }
        command = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", sys.executable, "-m", "opsfleet", "serve"]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            child(command, PRODUCT_CORE, env=env, log=log) as process,
            aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=300)) as session,
        ):
            try:
                await listening(PORT)
            except TimeoutError:
                raise RuntimeError(f"the product did not start: {log.read_text()[-2000:]}") from None
            yield Product(process, log, session, Path(folder) / "data")
