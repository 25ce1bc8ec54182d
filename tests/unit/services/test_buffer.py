"""Results wait for the database, are written in batches, and nothing is lost in between."""

import asyncio
from collections.abc import Sequence

import pytest

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.services import buffer as module
from opsfleet.services.buffer import ResultBuffer


class Store:
    """A store that can be away or refuse, and remembers what it was given."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.batches: list[tuple[int, bool]] = []
        self.away = 0
        self.refused: set[int] = set()
        self.attempted = asyncio.Event()
        self.events: list[str] = []

    async def write(self, batch: Sequence[int], repeated: bool) -> None:
        self.attempted.set()
        if self.away:
            self.away -= 1
            raise DatabaseUnavailableError("gone fishing")
        if self.refused & set(batch):
            raise ValueError("cannot be stored")
        self.batches.append((len(batch), repeated))
        self.written += batch

    def buffer(self, capacity: int = 1_000_000) -> ResultBuffer[int]:
        return ResultBuffer(
            self.write,
            capacity=capacity,
            on_away=lambda reason, _: self.events.append(f"away: {reason}"),
            on_back=lambda _: self.events.append("back"),
            on_dropped=lambda dropped: self.events.append(f"dropped {dropped}"),
            on_refused=lambda error, count: self.events.append(f"refused {count}: {error}"),
        )


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.001,))


async def test_everything_added_is_written_once_and_in_order() -> None:
    store = Store()
    buffer = store.buffer()
    buffer.start()
    for number in range(5_000):
        buffer.add(number)
    await buffer.settled()
    assert store.written == list(range(5_000))
    assert max(size for size, _ in store.batches) <= module.FLUSH_ITEMS
    assert len(buffer) == 0
    assert await buffer.stop(1) == 0


async def test_a_lone_result_does_not_wait_for_others() -> None:
    store = Store()
    buffer = store.buffer()
    buffer.start()
    buffer.add(1)
    await buffer.settled()
    assert store.written == [1]
    await buffer.stop(1)


async def test_results_wait_while_the_database_is_away_and_are_written_with_care_afterwards() -> None:
    store = Store()
    store.away = 3
    buffer = store.buffer()
    buffer.start()
    buffer.add(1)
    await store.attempted.wait()
    buffer.add(2)
    await buffer.settled()
    assert store.written == [1, 2]
    assert store.batches[0] == (1, True), "the fate of the first attempt was unknown"
    assert store.batches[1] == (1, False)
    assert store.events == ["away: gone fishing", "back"]
    assert buffer.dropped == 0
    await buffer.stop(1)


async def test_a_full_buffer_drops_the_oldest_and_counts() -> None:
    store = Store()
    buffer = store.buffer(capacity=10)
    for number in range(25):
        buffer.add(number)
    assert buffer.dropped == 15
    buffer.start()
    await buffer.settled()
    assert store.written == list(range(15, 25))
    assert "dropped 1" in store.events
    await buffer.stop(1)


async def test_the_batch_under_way_gives_way_when_the_buffer_fills_while_the_database_is_away() -> None:
    store = Store()
    store.away = 1_000_000
    buffer = store.buffer(capacity=10)
    buffer.start()
    for number in range(5):
        buffer.add(number)
    await store.attempted.wait()
    for number in range(5, 20):
        buffer.add(number)
    while buffer.dropped < 10:
        store.attempted.clear()
        await store.attempted.wait()
    store.away = 0
    await buffer.settled()
    assert store.written[-1] == 19
    assert len(store.written) + buffer.dropped == 20
    await buffer.stop(1)


async def test_a_batch_that_cannot_be_stored_does_not_block_the_next() -> None:
    store = Store()
    store.refused = {1}
    buffer = store.buffer()
    buffer.start()
    buffer.add(1)
    await buffer.settled()
    buffer.add(2)
    await buffer.settled()
    assert store.written == [2]
    assert store.events == ["refused 1: cannot be stored"]
    assert buffer.dropped == 1
    await buffer.stop(1)


async def test_stopping_writes_what_is_left() -> None:
    store = Store()
    buffer = store.buffer()
    buffer.start()
    for number in range(10):
        buffer.add(number)
    assert await buffer.stop(5) == 0
    assert store.written == list(range(10))


async def test_stopping_gives_up_on_a_database_that_stays_away() -> None:
    store = Store()
    store.away = 1_000_000
    buffer = store.buffer()
    buffer.start()
    buffer.add(1)
    await store.attempted.wait()
    assert await buffer.stop(0.05) == 1
