"""Uptime: every moment of a range counts once, for a health or as not monitored."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.uptime import UNMONITORED, gap_after, uptime

NOON = datetime(2026, 1, 26, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

moments = st.integers(-10_000, 10_000).map(lambda second: NOON + timedelta(seconds=second, microseconds=second % 7))
changes = st.lists(st.tuples(moments, st.sampled_from(HealthStatus)), max_size=12).map(
    lambda found: sorted(found, key=lambda change: change[0])
)
gaps = st.lists(st.tuples(moments, moments), max_size=6)


def test_a_day_with_an_outage_a_pause_and_a_late_first_check() -> None:
    found = uptime(
        NOON,
        NOON + 10 * HOUR,
        [
            (NOON + 1 * HOUR, HealthStatus.HEALTHY),
            (NOON + 4 * HOUR, HealthStatus.CRITICAL),
            (NOON + 5 * HOUR, HealthStatus.DEGRADED),
        ],
        [(NOON + 6 * HOUR, NOON + 8 * HOUR)],
    )
    assert {name: spent / HOUR for name, spent in found.spent.items()} == {
        "healthy": 3,
        "degraded": 3,
        "critical": 1,
        "unreachable": 0,
        "unmonitored": 3,
    }
    assert found.percent == 100 * 6 / 7


def test_what_was_before_the_range_still_holds_in_it() -> None:
    found = uptime(NOON, NOON + HOUR, [(NOON - 90 * HOUR, HealthStatus.UNREACHABLE)], [])
    assert (found.percent, found.spent["unreachable"]) == (0, HOUR)


def test_without_any_check_there_is_no_percentage() -> None:
    assert uptime(NOON, NOON + HOUR, [], []).percent is None
    assert uptime(NOON, NOON, [(NOON, HealthStatus.HEALTHY)], []).percent is None


def test_a_slow_cycle_is_no_gap_even_at_the_shortest_interval() -> None:
    assert gap_after(30) == timedelta(seconds=90)
    assert gap_after(1) == timedelta(seconds=11)


@given(changes, gaps, st.lists(moments, min_size=2, max_size=8))
def test_the_parts_are_the_range_and_any_split_of_it_adds_up(
    changed: list[tuple[datetime, HealthStatus]],
    unwatched: list[tuple[datetime, datetime]],
    cuts: list[datetime],
) -> None:
    cuts.sort()
    whole = uptime(cuts[0], cuts[-1], changed, unwatched)
    assert sum(whole.spent.values(), timedelta()) == cuts[-1] - cuts[0]
    assert all(spent >= timedelta() for spent in whole.spent.values())
    parts = [uptime(a, b, changed, unwatched) for a, b in pairwise(cuts)]
    for name, spent in whole.spent.items():
        assert sum((part.spent[name] for part in parts), timedelta()) == spent
    assert whole.percent is None or 0 <= whole.percent <= 100


@given(changes, gaps, moments)
def test_each_moment_counts_for_what_holds_then(
    changed: list[tuple[datetime, HealthStatus]], unwatched: list[tuple[datetime, datetime]], moment: datetime
) -> None:
    before = [status.value for at, status in changed if at <= moment]
    is_gap = any(since <= moment < until for since, until in unwatched)
    expected = UNMONITORED if is_gap or not before else before[-1]
    instant = timedelta(microseconds=1)
    assert uptime(moment, moment + instant, changed, unwatched).spent[expected] == instant
