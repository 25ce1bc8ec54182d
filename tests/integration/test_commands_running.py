"""The product as a process: it serves, survives a kill, and shows itself in a demo."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from opsfleet.embedded import EmbeddedPostgres
from tests.support.commands import SECONDS, process
from tests.support.postgres import short_folder
from tests.support.product import TOKEN
from tests.support.registry import SERVERS


class Client:
    """Somebody who calls the API with a token."""

    def __init__(self, url: str, token: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and decoded body."""
        async with self._session.request(method, self._url + path, headers=self._headers, json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def until(self, path: str, condition: Callable[[int, Any], bool]) -> Any:
        """Ask until the answer satisfies `condition`."""
        while True:
            status, body = await self.call("GET", path)
            if condition(status, body):
                return body
            await asyncio.sleep(0.05)

    async def until_ready(self) -> None:
        """Ask until the product is ready; before it listens, nobody answers."""
        while True:
            with suppress(aiohttp.ClientConnectionError):
                await self.until("/readyz", lambda status, _: status == 200)
                return
            await asyncio.sleep(0.05)


def free_port() -> int:
    """Return a port at which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(
    session: aiohttp.ClientSession, settings: Mapping[str, str]
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Client]]:
    """Run `opsfleet serve` until the end of the block; it is ready when the block begins."""
    port = free_port()
    async with process("serve", "--port", str(port), settings=settings, merged=True) as child:
        client = Client(f"http://127.0.0.1:{port}", TOKEN, session)
        ready = asyncio.create_task(client.until_ready())
        ended = asyncio.create_task(child.wait())
        await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            assert child.stdout is not None
            raise AssertionError((await child.stdout.read()).decode())
        yield child, client
        ended.cancel()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as found:
        yield found


@pytest.fixture
async def data_dir() -> AsyncIterator[Path]:
    """A folder for a product with an embedded database, which is stopped at the end whoever left it behind."""
    with short_folder() as folder:
        yield folder / "fleet"
        left_behind = EmbeddedPostgres(folder / "fleet")
        await asyncio.to_thread(left_behind.start)
        await asyncio.to_thread(left_behind.stop)


async def test_serve_that_was_killed_starts_again_with_everything_that_was_stored(
    session: aiohttp.ClientSession, data_dir: Path, agents: Any
) -> None:
    settings = {
        "FLEET_DATA_DIR": str(data_dir),
        "FLEET_BOOTSTRAP_ADMIN_TOKEN": TOKEN,
        "FLEET_HEALTH_INTERVAL": "3600",
    }
    async with asyncio.timeout(2 * SECONDS):
        async with serving(session, settings) as (child, client):
            assert await client.call("GET", "/healthz") == (200, {"status": "ok"})
            assert (await client.call("GET", "/readyz"))[1]["status"] == "ok"
            row = {"name": "web-1", "hostname": "web-1", "api_url": agents.url(0), "api_token": "simulated-token"}
            status, created = await client.call("POST", SERVERS, row)
            assert (status, created["health_check"]["status"]) == (201, "healthy")
            one = f"{SERVERS}/{created['id']}"
            before = [(await client.call("GET", one + path))[1] for path in ("/health-history", "/transitions")]
            child.kill()
            assert await child.wait() == -signal.SIGKILL

        async with serving(session, settings) as (child, client):
            server = (await client.call("GET", one))[1]
            assert {"health_check": created["health_check"], **server} | {
                name: created[name] for name in ("last_seen_at", "last_health_check_at")
            } == created
            after = [(await client.call("GET", one + path))[1] for path in ("/health-history", "/transitions")]
            for earlier, later in zip(before, after, strict=True):
                assert earlier["items"]
                assert later["items"][-len(earlier["items"]) :] == earlier["items"]
            status, check = await client.call("POST", f"{one}/health-check")
            assert (status, check["status"]) == (200, "healthy")
            child.terminate()
            assert await child.wait() in {0, -signal.SIGTERM}
    assert not (data_dir / "postgres/data/postmaster.pid").exists()


async def test_a_demo_watches_its_fleet_and_ends_by_itself(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    settings = {"HOME": str(tmp_path), "FLEET_HEALTH_INTERVAL": "1"}
    async with (
        asyncio.timeout(2 * SECONDS),
        process("demo", "--servers", "3", "--for", "5", settings=settings, merged=True) as child,
    ):
        assert child.stdout is not None
        shown = ""
        while "Ctrl-C ends it" not in shown:
            line = (await child.stdout.readline()).decode()
            assert line, shown
            shown += line
        url, token = re.search(r"API +(\S+)/docs", shown), re.search(r"Admin token +(\S+)", shown)
        assert url is not None
        assert token is not None
        client = Client(url[1], token[1], session)
        listed = await client.until(
            SERVERS,
            lambda status, body: status == 200 and all(server["health_status"] for server in body["items"]),
        )
        assert len(listed["items"]) == 4
        assert {"this-machine"} < {server["name"] for server in listed["items"]}
        rest = (await child.stdout.read()).decode()
        assert await child.wait() == 0, rest
        assert "Traceback" not in shown + rest
