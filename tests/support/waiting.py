"""Waiting for what can only be looked at."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Look until `condition` holds; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)
