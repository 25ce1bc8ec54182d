import asyncio
import os
import resource
import select
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from opsfleet.simulate.behaviour import Behaviour
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.simulate.rules import Rule, Servers
from opsfleet.simulate.scenario import Scenario

Ask = Callable[..., Awaitable[bytes]]
REQUEST = b"GET /health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer simulated-token\r\n\r\n"


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_a_black_hole_accepts_and_never_answers(ask: Ask) -> None:
    scenario = Scenario(rules=[Rule(servers=Servers(indexes=[0]), network="black-hole")])
    async with SimulatedFleet(2, scenario=scenario) as fleet:
        with socket.create_connection(("127.1.0.1", fleet.port)) as client:
            client.send(REQUEST)
            client.setblocking(False)
            await until(lambda: fleet.requests == 1)
            assert (await ask(fleet, 1)).startswith(b"HTTP/1.1 200 ")
            with pytest.raises(BlockingIOError):
                client.recv(1)
        await until(lambda: fleet.connections == 0)


async def test_a_refusing_server_resets_new_and_old_connections(ask: Ask) -> None:
    async with SimulatedFleet(2) as fleet:
        reader, writer = await asyncio.open_connection("127.1.0.1", fleet.port)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        fleet.set_behaviour(0, Behaviour(network="refuse"))
        writer.write(REQUEST)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await ask(fleet, 0)
        fleet.set_behaviour(0, None)
        assert (await ask(fleet, 0)).startswith(b"HTTP/1.1 200 ")


async def test_a_firewalled_server_does_not_even_accept(ask: Ask) -> None:
    scenario = Scenario(rules=[Rule(servers=Servers(indexes=[1]), network="drop")])
    async with SimulatedFleet(3, scenario=scenario) as fleet:
        with socket.socket() as client:
            client.setblocking(False)
            assert client.connect_ex(("127.1.0.2", fleet.port)) != 0
            # On loopback an accepted connection is there at once.
            assert (await ask(fleet, 2)).startswith(b"HTTP/1.1 200 ")
            assert select.select([], [client], [], 0) == ([], [], [])


async def test_two_fleets_cannot_share_a_port() -> None:
    async with SimulatedFleet(1) as fleet:
        with pytest.raises(OSError, match="in use"):
            await SimulatedFleet(1, port=fleet.port).__aenter__()


async def test_a_stopped_fleet_leaves_nothing_open() -> None:
    async with SimulatedFleet(1) as fleet:
        reader, writer = await asyncio.open_connection("127.1.0.1", fleet.port)
        await until(lambda: fleet.connections == 1)
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.1.0.1", fleet.port)


async def test_without_a_free_descriptor_accepting_waits_and_goes_on() -> None:
    async with SimulatedFleet(5) as fleet:
        clients = [socket.socket() for _ in range(5)]
        with no_free_descriptor():
            for index, client in enumerate(clients):
                client.connect((f"127.1.0.{index + 1}", fleet.port))
                client.send(REQUEST)
            await until(lambda: fleet.pauses > 0)
            assert fleet.connections == 0
        for client in clients:
            client.setblocking(False)
            answer = await asyncio.get_running_loop().sock_recv(client, 4096)
            assert answer.startswith(b"HTTP/1.1 200 ")
            client.close()


@contextmanager
def no_free_descriptor() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
