"""Results wait for the database, are written in batches, and nothing is lost in between."""

import asyncio
from collections.abc import Sequence

import pytest

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.services import buffer as module
from opsfleet.services.buffer import ResultBuffer
from opsfleet.store.leases import LeaseLostError


class Store:
    """A store that can be away or refuse, and remembers what it was given."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.batches: list[tuple[int, bool]] = []
        self.away = 0
        self.refused: set[int] = set()
        self.attempted = asyncio.Event()
        self.held: asyncio.Event | None = None
        self.attempts = 0
        self.events: list[str] = []

    async def write(self, batch: Sequence[int], repeated: bool) -> None:
        self.attempts += 1
        self.attempted.set()
        if self.held is not None:
            await self.held.wait()
        if self.away:
            self.away -= 1
            raise DatabaseUnavailableError("gone fishing")
        if self.refused & set(batch):
            raise ValueError("cannot be stored")
        self.batches.append((len(batch), repeated))
        self.written += batch

    async def tried(self, times: int) -> None:
        """Wait until something was tried so often."""
        while self.attempts < times:
            self.attempted.clear()
            await self.attempted.wait()

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


async def test_the_oldest_give_way_when_the_buffer_fills_while_the_database_is_away() -> None:
    store = Store()
    store.away = 1_000_000
    buffer = store.buffer(capacity=10)
    buffer.start()
    for number in range(8):
        buffer.add(number)
    await store.tried(2)
    for number in range(8, 20):
        buffer.add(number)
    await store.tried(store.attempts + 2)
    assert (len(buffer), buffer.dropped) == (10, 10)
    store.away = 0
    await buffer.settled()
    assert store.written == list(range(10, 20))
    await buffer.stop(1)


async def test_of_a_batch_of_unknown_fate_the_newest_are_kept() -> None:
    store = Store()
    store.away = 1_000_000
    buffer = store.buffer(capacity=10)
    buffer.start()
    for number in range(8):
        buffer.add(number)
    await store.tried(2)
    for number in range(8, 13):
        buffer.add(number)
    await store.tried(store.attempts + 2)
    store.away = 0
    await buffer.settled()
    assert store.written == list(range(3, 13))
    assert store.batches == [(5, True), (5, False)], "only what was tried before is written with care"
    assert buffer.dropped == 3
    await buffer.stop(1)


async def test_a_write_under_way_that_fails_goes_back_before_what_came_later() -> None:
    store = Store()
    buffer = store.buffer(capacity=10)
    store.held = asyncio.Event()
    store.away = 1
    for number in range(6):
        buffer.add(number)
    buffer.start()
    await store.tried(1)
    for number in range(6, 15):
        buffer.add(number)
    assert (len(buffer), buffer.dropped) == (15, 0), "the write may still succeed"
    store.held.set()
    await buffer.settled()
    assert store.written == list(range(5, 15))
    assert buffer.dropped == 5
    await buffer.stop(1)


async def test_results_that_cannot_be_stored_do_not_take_their_batch_with_them() -> None:
    store = Store()
    store.refused = {0, 777, 778, 1_999}
    buffer = store.buffer()
    for number in range(3_000):
        buffer.add(number)
    buffer.start()
    await buffer.settled()
    assert store.written == [number for number in range(3_000) if number not in store.refused]
    assert store.events == ["refused 4: cannot be stored"], "one line for a batch"
    assert buffer.dropped == 4
    assert await buffer.stop(1) == 0


async def test_a_database_that_goes_away_while_culprits_are_sought_loses_nothing() -> None:
    store = Store()
    store.refused = {7}
    buffer = store.buffer()
    for number in range(64):
        buffer.add(number)
    buffer.start()
    await store.tried(2)
    store.away = 2
    await buffer.settled()
    assert store.written == [number for number in range(64) if number != 7]
    assert buffer.dropped == 1
    assert await buffer.stop(1) == 0


async def test_when_nothing_at_all_can_be_stored_a_batch_is_given_up_before_long() -> None:
    store = Store()
    store.refused = set(range(2_000))
    buffer = store.buffer()
    for number in range(2_001):
        buffer.add(number)
    buffer.start()
    await buffer.settled()
    assert store.events == ["refused 2000: cannot be stored"]
    assert store.attempts < 200
    assert store.written == [2_000], "the next batch is tried all the same"
    assert await buffer.stop(1) == 0


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


async def test_results_that_another_worker_makes_void_are_given_up_together() -> None:
    attempts: list[int] = []
    refused: list[tuple[Exception, int]] = []

    async def write(batch: Sequence[int], _: bool) -> None:
        attempts.append(len(batch))
        raise LeaseLostError("another worker has taken over")

    buffer: ResultBuffer[int] = ResultBuffer(
        write,
        capacity=1_000_000,
        on_away=lambda *_: None,
        on_back=lambda _: None,
        on_dropped=lambda _: None,
        on_refused=lambda error, count: refused.append((error, count)),
    )
    for number in range(5_000):
        buffer.add(number)
    buffer.start()
    await buffer.settled()
    assert attempts == [module.FLUSH_ITEMS], "one refusal is enough"
    assert [count for _, count in refused] == [5_000]
    assert buffer.dropped == 5_000
    assert await buffer.stop(1) == 0
