import asyncio
from collections.abc import Awaitable, Callable

import pytest

from opsfleet.simulate.addresses import address_of
from opsfleet.simulate.fleet import SimulatedFleet

Ask = Callable[..., Awaitable[bytes]]


def request(path: str, *, token: str | None = "simulated-token", method: str = "GET", close: bool = False) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: server\r\n"
    if token is not None:
        head += f"Authorization: Bearer {token}\r\n"
    if close:
        head += "Connection: close\r\n"
    return (head + "\r\n").encode()


@pytest.fixture
def ask() -> Ask:
    """Send one request on a connection of its own and return every byte of the answer."""

    async def send(fleet: SimulatedFleet, index: int, path: str = "/health", **how: object) -> bytes:
        reader, writer = await asyncio.open_connection(address_of(index), fleet.port)
        try:
            writer.write(request(path, close=True, **how))
            return await reader.read()
        finally:
            writer.close()

    return send
