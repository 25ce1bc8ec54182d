"""Deadlines for many requests without a timer for each.

All entries of one queue last equally long, so the order of entry is the order of expiry, and one look at the head
tells whether anything is due. Entries that ended in time are skipped when they reach the head.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class DeadlineQueue(Generic[Item]):
    """A first-in-first-out queue of items that each expire `duration` seconds after they were added.

    An item is identified by itself and a sequence number: when the owner has gone on to another number, it ended.
    """

    def __init__(self, duration: float) -> None:
        self.duration = duration
        self._entries: deque[tuple[float, Item, int]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, now: float, item: Item, sequence: int) -> None:
        """Let `item` expire `duration` seconds after `now` (monotonic seconds)."""
        self._entries.append((now + self.duration, item, sequence))

    def expired(self, now: float) -> Iterator[tuple[Item, int]]:
        """Take out and yield the entries that are due; the caller knows which of them already ended."""
        entries = self._entries
        while entries and entries[0][0] <= now:
            _, item, sequence = entries.popleft()
            yield item, sequence

    def older_than(self, now: float, age: float) -> Iterator[tuple[Item, int]]:
        """Yield, oldest first, the entries added at least `age` seconds before `now`, without taking them out."""
        limit = now - age + self.duration
        for deadline, item, sequence in self._entries:
            if deadline > limit:
                return
            yield item, sequence
