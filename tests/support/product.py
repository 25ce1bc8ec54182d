"""The whole product in one test: application, workers, API, on a database of its own."""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import aiohttp
import msgspec

from opsfleet.app import Fleet, build_application
from opsfleet.cli.serve import Server
from opsfleet.settings import Settings

TOKEN = "test-admin-token"
SECRET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def environment(dsn: str | None, **settings: object) -> dict[str, str]:
    """Return an environment in which the product uses the database at `dsn`, or without one an embedded one."""
    return {
        **({"DATABASE_URL": dsn} if dsn else {}),
        "FLEET_SECRET_KEY": SECRET_KEY,
        "FLEET_BOOTSTRAP_ADMIN_TOKEN": TOKEN,
        "FLEET_PORT": "0",
        "FLEET_HEALTH_INTERVAL": "3600",
        "FLEET_METRICS_INTERVAL": "3600",
        "FLEET_REQUEST_TIMEOUT": "2",
        **{f"FLEET_{name.upper()}": str(value) for name, value in settings.items()},
    }


class Product:
    """A running control plane, as its API shows it."""

    def __init__(self, url: str, fleet: Fleet, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.fleet = fleet
        self.session = session

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> tuple[int, Any]:
        """Return status and decoded body of a call of the API, as the bootstrap admin unless `headers` say who."""
        sent = {"Authorization": f"Bearer {TOKEN}"} if headers is None else dict(headers)
        given: dict[str, Any] = {}
        if body is not None:
            raw = msgspec.json.encode(body)
        if raw is not None:
            given = {"data": io.BytesIO(raw)}
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.url + path, headers=sent, **given) as response:
            content = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "")
            return response.status, (await response.json(content_type=None)) if is_json else content.decode()

    async def get(self, path: str) -> Any:
        """Return the body of a GET that must succeed."""
        status, body = await self.call("GET", path)
        assert status == 200, body
        return body

    async def register(self, name: str, api_url: str, **more: Any) -> dict[str, Any]:
        """Register a server that must be accepted."""
        row = {"name": name, "hostname": name, "api_url": api_url, "api_token": "simulated-token", **more}
        status, body = await self.call("POST", "/api/v1/fleet/servers", row)
        assert status == 201, body
        found: dict[str, Any] = body
        return found

    async def until(self, path: str, condition: Any, seconds: float = 20) -> Any:
        """Ask until the answer satisfies `condition`; fails after `seconds`."""
        async with asyncio.timeout(seconds):
            while True:
                body = await self.get(path)
                if condition(body):
                    return body
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running_product(dsn: str | None, **settings: object) -> AsyncIterator[Product]:
    """Run the product on this loop, on a free port, until the end of the block."""
    found = Settings.from_environment(environment(dsn, **settings))
    app = build_application(found)
    server = Server(app, found)
    leave_signals_alone(server)
    serving = await server.start()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            yield Product(f"http://127.0.0.1:{port}", app.state.fleet, session)
    finally:
        server.should_exit = True
        await serving


def leave_signals_alone(server: Server) -> None:
    """Leave the test runner's signal handlers as they are."""
    server.capture_signals = nullcontext  # type: ignore[method-assign]
