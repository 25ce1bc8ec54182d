"""A buffer between what is found and what is stored."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.store.leases import LeaseLostError

Item = TypeVar("Item")

FLUSH_SECONDS = 0.25
"""A result waits at most this long before it is written."""

FLUSH_ITEMS = 2_000
"""So many results are written at once without waiting, and at most so many in one transaction."""

RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0)
"""Waits between attempts while the database is away; the last one repeats."""

GIVE_UP = 50
"""So many single results refused with none stored in between: the fault is in none of them, the batch is given up."""

Write = Callable[[Sequence[Item], bool], Awaitable[None]]
"""Stores a batch, all or nothing. The flag says that an earlier attempt may have succeeded after all."""


class _Piece:
    """The oldest `size` results, to be written by themselves; when `repeated`, they may have been stored already."""

    __slots__ = ("repeated", "size")

    def __init__(self, size: int, repeated: bool) -> None:
        self.size = size
        self.repeated = repeated


class ResultBuffer(Generic[Item]):
    """Collects results and writes them in batches, on size or time.

    While the database is away, results wait; beyond `capacity` (and one batch under way) the oldest are dropped and
    counted. A batch that fails for another reason than the database's absence is halved again and again, until only the
    results that cannot be stored are left: these are given up and counted, so that they cannot block the rest.
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
        self._pieces: deque[_Piece] = deque()
        self._refused: tuple[Exception, int] | None = None
        self._refused_in_row = 0
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
        if len(items) == FLUSH_ITEMS:
            self._wake.set()
        self._trim()

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
            attempt = 0
            while self._items:
                attempt = 0 if await self._flush() else attempt + 1
                if attempt:
                    await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS)) - 1])
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

    async def _flush(self) -> bool:
        """Try to write the oldest results; False when the database is away."""
        piece = self._pieces.popleft() if self._pieces else _Piece(min(FLUSH_ITEMS, len(self._items)), repeated=False)
        if piece.size == len(self._items):
            self._batch = list(self._items)
            self._items.clear()
        else:
            self._batch = [self._items.popleft() for _ in range(piece.size)]
        try:
            await self._write(self._batch, piece.repeated)
        except DatabaseUnavailableError as error:
            self._put_back(_Piece(piece.size, repeated=True))
            if not self.away:
                self.away = True
                self._on_away(error.message, len(self))
            self._trim()
            return False
        except LeaseLostError as error:  # nor will anything behind it be wanted
            self._give_up_all(error)
        except Exception as error:  # what cannot be stored must not stop what is behind it
            self._narrow_down(piece, error)
        else:
            self._batch = []
            self._refused_in_row = 0
        if self._refused is not None and not self._pieces:
            (first, count), self._refused = self._refused, None
            self._on_refused(first, count)
        if self.away:
            self.away = False
            self._on_back(len(self._items))
        return True

    def _give_up_all(self, error: Exception) -> None:
        given_up = len(self)
        self._batch = []
        self._items.clear()
        self._pieces.clear()
        self.dropped += given_up
        self._on_refused(error, given_up)

    def _narrow_down(self, piece: _Piece, error: Exception) -> None:
        """Let the halves of a refused piece be tried one after the other; a single result is given up."""
        if piece.size > 1:
            half = piece.size // 2
            self._put_back(_Piece(half, piece.repeated), _Piece(piece.size - half, piece.repeated))
            return
        self._batch = []
        given_up = 1
        self._refused_in_row += 1
        if self._refused_in_row >= GIVE_UP:
            self._refused_in_row = 0
            rest = sum(piece.size for piece in self._pieces)
            self._pieces.clear()
            for _ in range(rest):
                self._items.popleft()
            given_up += rest
        self.dropped += given_up
        first, before = self._refused or (error, 0)
        self._refused = (first, before + given_up)

    def _put_back(self, *pieces: _Piece) -> None:
        self._items.extendleft(reversed(self._batch))
        self._batch = []
        self._pieces.extendleft(reversed(pieces))

    def _trim(self) -> None:
        """Drop the oldest of what waits while it is too much."""
        excess = len(self._items) - self._capacity
        if excess <= 0:
            return
        for _ in range(excess):
            self._items.popleft()
        before, self.dropped = self.dropped, self.dropped + excess
        while excess and self._pieces:
            piece = self._pieces[0]
            cut = min(excess, piece.size)
            excess -= cut
            piece.size -= cut
            if not piece.size:
                self._pieces.popleft()
        if before == 0 or self.dropped // 10_000 > before // 10_000:
            self._on_dropped(self.dropped)
