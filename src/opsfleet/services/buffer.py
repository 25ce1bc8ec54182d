"""A buffer between what is found and what is stored."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from opsfleet.domain.errors import DatabaseUnavailableError

Item = TypeVar("Item")

FLUSH_SECONDS = 0.25
"""A result waits at most this long before it is written."""

FLUSH_ITEMS = 2_000
"""So many results are written at once without waiting, and at most so many in one transaction."""

RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0)
"""Waits between attempts while the database is away; the last one repeats."""

Write = Callable[[Sequence[Item], bool], Awaitable[None]]
"""Stores a batch, all or nothing. The flag says that an earlier attempt may have succeeded after all."""


class ResultBuffer(Generic[Item]):
    """Collects results and writes them in batches, on size or time.

    While the database is away, results wait; beyond `capacity` the oldest are dropped and counted. A batch that fails
    for another reason than the database's absence is given up and counted, so that it cannot block the rest.
    """

    def __init__(
        self,
        write: Write[Item],
        *,
        capacity: int,
        on_away: Callable[[str, int], None],
        on_back: Callable[[int], None],
        on_dropped: Callable[[int], None],
        on_refused: Callable[[Exception, int], None],
    ) -> None:
        self._write = write
        self._capacity = capacity
        self._on_away = on_away
        self._on_back = on_back
        self._on_dropped = on_dropped
        self._on_refused = on_refused
        self._items: deque[Item] = deque()
        self._batch: list[Item] = []
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        self.away = False

    def __len__(self) -> int:
        return len(self._items) + len(self._batch)

    def start(self) -> None:
        """Begin to write."""
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name="result-buffer")

    def add(self, item: Item) -> None:
        """Take one result."""
        items = self._items
        if not items:
            self._settled.clear()
            self._wake.set()
        items.append(item)
        count = len(items)
        if count == FLUSH_ITEMS:
            self._wake.set()
        if count + len(self._batch) > self._capacity:
            items.popleft()
            self.dropped += 1
            if self.dropped == 1 or self.dropped % 10_000 == 0:
                self._on_dropped(self.dropped)

    async def settled(self) -> None:
        """Wait until everything added so far is written, dropped or given up."""
        await self._settled.wait()

    async def stop(self, timeout: float) -> int:
        """Write what is left, for at most `timeout` seconds; return how many results could not be written."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=timeout)
            if not done:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        return len(self)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._items:
                if self._stopping:
                    return
                continue
            if len(self._items) < FLUSH_ITEMS and not self._stopping:
                await self._gather()
            while self._items:
                count = min(FLUSH_ITEMS, len(self._items))
                self._batch = [self._items.popleft() for _ in range(count)]
                await self._flush()
            self._settled.set()
            if self._stopping:
                return

    async def _gather(self) -> None:
        """Let results come together until it is time or there are many."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS * 0.8):
                while len(self._items) < FLUSH_ITEMS and not self._stopping:
                    await self._wake.wait()
                    self._wake.clear()
        except TimeoutError:
            pass

    async def _flush(self) -> None:
        attempt = 0
        while self._batch:
            try:
                await self._write(self._batch, attempt > 0)
            except DatabaseUnavailableError as error:
                if not self.away:
                    self.away = True
                    self._on_away(error.message, len(self))
                wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                attempt += 1
                await asyncio.sleep(wait)
                self._trim()
            except Exception as error:  # a batch that cannot be stored must not stop the ones behind it
                self.dropped += len(self._batch)
                self._on_refused(error, len(self._batch))
                self._batch = []
            else:
                self._batch = []
                if self.away:
                    self.away = False
                    self._on_back(len(self._items))

    def _trim(self) -> None:
        """The batch under way holds the oldest results: it gives way first when the buffer is full."""
        if len(self._items) + len(self._batch) >= self._capacity:
            self.dropped += len(self._batch)
            self._on_dropped(self.dropped)
            self._batch = []
