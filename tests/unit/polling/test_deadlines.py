"""The queue of deadlines."""

from hypothesis import given
from hypothesis import strategies as st

from opsfleet.polling.deadlines import DeadlineQueue


def test_entries_expire_in_order_and_once() -> None:
    queue: DeadlineQueue[str] = DeadlineQueue(10.0)
    queue.add(0.0, "a", 1)
    queue.add(1.0, "b", 1)
    queue.add(1.0, "a", 2)
    assert list(queue.expired(9.9)) == []
    assert list(queue.expired(10.0)) == [("a", 1)]
    assert list(queue.expired(10.0)) == []
    assert list(queue.expired(100.0)) == [("b", 1), ("a", 2)]
    assert len(queue) == 0


def test_entries_added_while_looking_are_looked_at_too() -> None:
    queue: DeadlineQueue[str] = DeadlineQueue(0.0)
    queue.add(0.0, "a", 1)
    seen = []
    for item, sequence in queue.expired(0.0):
        seen.append((item, sequence))
        if sequence < 3:
            queue.add(0.0, item, sequence + 1)
    assert seen == [("a", 1), ("a", 2), ("a", 3)]


def test_the_old_ones_are_shown_without_being_taken_out() -> None:
    queue: DeadlineQueue[str] = DeadlineQueue(10.0)
    queue.add(0.0, "a", 1)
    queue.add(2.0, "b", 1)
    queue.add(4.0, "c", 1)
    assert list(queue.older_than(4.0, 1.0)) == [("a", 1), ("b", 1)]
    assert list(queue.older_than(4.0, 2.0)) == [("a", 1), ("b", 1)]
    assert list(queue.older_than(4.0, 5.0)) == []
    assert len(queue) == 3


@given(st.lists(st.floats(0.0, 5.0), max_size=30), st.floats(0.01, 3.0), st.floats(0.1, 2.0))
def test_every_entry_expires_once_and_never_early(gaps: list[float], duration: float, step: float) -> None:
    queue: DeadlineQueue[int] = DeadlineQueue(duration)
    now, due, seen = 0.0, {}, []
    for number, gap in enumerate(gaps):
        now += gap
        queue.add(now, number, 0)
        due[number] = now + duration
        for item, _ in queue.expired(now):
            assert due[item] <= now
            seen.append(item)
    seen += [item for item, _ in queue.expired(now + duration + step)]
    assert seen == list(range(len(gaps)))
