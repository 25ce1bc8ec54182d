"""A fixed schedule: start + n · interval, on the monotonic clock, so that no jump of the wall clock matters."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import NamedTuple


class Tick(NamedTuple):
    """The `number`-th time of a schedule, and how many seconds late it came."""

    number: int
    lateness: float


async def ticks(interval: float) -> AsyncIterator[Tick]:
    """Yield 0 at once and then n at start + n · `interval` seconds. Times that have passed meanwhile are left out."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    number = 0
    while True:
        yield Tick(number, loop.time() - start - number * interval)
        number = max(number + 1, math.ceil((loop.time() - start) / interval))
        await asyncio.sleep(start + number * interval - loop.time())
