"""Running a simulated fleet as a process of its own."""

import asyncio
import gc
import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Self

import msgspec
import uvloop

from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.simulate.scenario import Scenario
from opsfleet.simulate.servers import DEFAULT_PORT, DEFAULT_TOKEN

STATS_SECONDS = 10.0
_SPARE_DESCRIPTORS = 64


class RunOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to simulate. `seconds` ends it by itself; `stats` prints a line every ten seconds."""

    servers: int
    port: int = DEFAULT_PORT
    token: str = DEFAULT_TOKEN
    scenario: Scenario = Scenario()
    seconds: float | None = None
    stats: bool = False


def run(options: RunOptions, ready: Callable[[SimulatedFleet], None], say: Callable[[str], None]) -> None:
    """Simulate until SIGINT, SIGTERM or the end of the time; `ready` is called once every server answers.

    Raises:
        OSError: when the port is taken.
    """
    with suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_run(options, ready, say))


async def _run(options: RunOptions, ready: Callable[[SimulatedFleet], None], say: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    fleet = SimulatedFleet(options.servers, port=options.port, scenario=options.scenario, token=options.token)
    async with fleet:
        # Nearly everything lives as long as the process: let the collector pass over it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        with _Stats(fleet, say) if options.stats else nullcontext():
            ready(fleet)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), options.seconds)


class _Stats:
    """Prints a line every ten seconds."""

    def __init__(self, fleet: SimulatedFleet, say: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._before = (time.monotonic(), time.process_time(), fleet.requests)
        # Opened now: later there may be no descriptor left for it.
        self._memory = open("/proc/self/statm", "rb", buffering=0)  # noqa: SIM115 - closed on exit
        self._timer = self._loop.call_later(STATS_SECONDS, self._print)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._memory.close()

    def _print(self) -> None:
        fleet = self._fleet
        now = (time.monotonic(), time.process_time(), fleet.requests)
        seconds, cpu, requests = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        line = (
            f"{requests / seconds:,.0f} requests/s, {cpu / seconds:.0%} CPU, {fleet.connections:,} connections open, "
            f"{fleet.accepted:,} accepted, {self._resident_megabytes():.0f} MB"
        )
        if fleet.pauses:
            line += f", waited {fleet.pauses:,} times for a free descriptor"
        self._say(line)
        self._timer = self._loop.call_later(STATS_SECONDS, self._print)

    def _resident_megabytes(self) -> float:
        self._memory.seek(0)
        return int(self._memory.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
