"""Engines against real servers on loopback, and the proof that nothing of them is left."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from itertools import count
from typing import Any, Protocol

import pytest

from opsfleet.polling import Limits, NetworkPolicy, Outcome, PollingEngine, Resolver, Target
from tests.support import rogue

LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]


def _descriptors() -> Counter[str]:
    """Count the open descriptors by what they are; the loop's own ones change their numbers between tests."""
    found: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{number}").partition("[")[0]] += 1
        except FileNotFoundError:  # the listing's own
            continue
    return found


async def _settled(probe: Callable[[], object]) -> object:
    """Return what is left of something that goes away in the next turns of the loop, or of a library's thread."""
    for _ in range(200):
        if not probe():
            break
        await asyncio.sleep(0.01)
    return probe()


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Prove after each test that no descriptor and no task is left."""
    # The first stream of a loop makes it open a descriptor that it keeps in reserve.
    first = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    first.close()
    await first.wait_closed()
    before = _descriptors()
    tasks = asyncio.all_tasks()
    yield
    more = await _settled(lambda: _descriptors() - before)
    assert not more, f"descriptors left open: {more}"
    left = await _settled(lambda: asyncio.all_tasks() - tasks - {asyncio.current_task()})
    assert not left, f"tasks left running: {left}"


class MakeEngine(Protocol):
    """Makes an engine that may call loopback; arguments are those of `Limits`."""

    def __call__(
        self, *, policy: NetworkPolicy | None = None, resolver: Resolver | None = None, **limits: Any
    ) -> PollingEngine: ...


@pytest.fixture
async def make_engine(nothing_left: None) -> AsyncIterator[MakeEngine]:
    engines: list[PollingEngine] = []

    def make(*, policy: NetworkPolicy | None = None, resolver: Resolver | None = None, **limits: Any) -> PollingEngine:
        engine = PollingEngine(Limits(**limits), policy or NetworkPolicy(http_allow=LOOPBACK), resolver)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        await engine.close()
        assert (engine.connections, engine.in_flight, engine.queued) == (0, 0, 0)


async def turns_until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Let the loop turn until `condition` holds, where nothing tells of it."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0)


_keys = count()


def target_of(server: rogue.Server | int, **fields: Any) -> Target:
    """Return a target with a key of its own for a server, or for a port on 127.0.0.1."""
    host, port = ("127.0.0.1", server) if isinstance(server, int) else (server.host, server.port)
    return Target(**{"key": next(_keys), "host": host, "port": port, "tls": False, **fields})


class Outcomes:
    """A sink that keeps what it is given, and lets a test wait for it."""

    def __init__(self) -> None:
        self.all: list[Outcome] = []
        self._more = asyncio.Event()

    def __call__(self, outcome: Outcome) -> None:
        self.all.append(outcome)
        self._more.set()

    def __len__(self) -> int:
        return len(self.all)

    async def reach(self, number: int, timeout: float = 20.0) -> list[Outcome]:
        """Wait until there are `number` outcomes."""
        async with asyncio.timeout(timeout):
            while len(self.all) < number:
                self._more.clear()
                await self._more.wait()
        return self.all
