"""A value that is costly to find out, kept for a few seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value_co = TypeVar("Value_co", covariant=True)


class Cached(Generic[Value_co]):
    """Calls `find` at most once at a time, and gives its result to everybody who asks within `seconds` of it."""

    def __init__(
        self, find: Callable[[], Awaitable[Value_co]], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._find = find
        self._seconds = seconds
        self._clock = clock
        self._value: tuple[float, Value_co] | None = None
        self._running: asyncio.Task[Value_co] | None = None

    async def get(self) -> Value_co:
        """Return the value, found out now or a few seconds ago."""
        if self._value is not None and self._clock() < self._value[0]:
            return self._value[1]
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        # One caller that goes away must not take the value away from the others.
        return await asyncio.shield(self._running)

    async def _run(self) -> Value_co:
        try:
            value = await self._find()
            self._value = (self._clock() + self._seconds, value)
            return value
        finally:
            self._running = None
