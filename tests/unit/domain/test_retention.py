"""What goes when: whole months, each kind of history on its own day."""

from datetime import UTC, datetime, timedelta

import pytest

from opsfleet.domain.partitions import Month, Part
from opsfleet.domain.retention import PartState, Retention, due, hollow, next_drops, state_of

RETENTION = Retention(90, {"1m": 30, "5m": 180, "15m": 180, "1h": 1_095, "1d": 1_095})
SECOND = timedelta(seconds=1)


def metrics(month: Month, period: str) -> Part:
    return Part("server_metrics_aggregated", month, period)


def health(month: Month) -> Part:
    return Part("server_health_checks", month)


@pytest.mark.parametrize(
    ("part", "goes"),
    [
        (metrics(Month(2026, 1), "1m"), datetime(2026, 3, 3, tzinfo=UTC)),
        (metrics(Month(2028, 1), "1m"), datetime(2028, 3, 2, tzinfo=UTC)),  # over 29 February
        (metrics(Month(2025, 12), "5m"), datetime(2026, 6, 30, tzinfo=UTC)),
        (metrics(Month(2026, 12), "1d"), datetime(2029, 12, 31, tzinfo=UTC)),
        (health(Month(2026, 12)), datetime(2027, 4, 1, tzinfo=UTC)),
    ],
)
def test_a_part_goes_when_its_youngest_possible_row_is_older_than_the_retention(part: Part, goes: datetime) -> None:
    assert RETENTION.kept_until(part) == goes
    assert due([part], RETENTION, goes - SECOND) == []
    assert due([part], RETENTION, goes) == [part]


def test_each_period_of_a_month_goes_on_its_own_day() -> None:
    parts = [metrics(Month(2026, 1), period) for period in ("1m", "5m", "15m", "1h", "1d")]
    left = {
        now: [part.period for part in parts if part not in due(parts, RETENTION, now)]
        for now in (
            datetime(2026, 3, 2, tzinfo=UTC),
            datetime(2026, 3, 3, tzinfo=UTC),
            datetime(2026, 8, 1, tzinfo=UTC),
        )
    }
    assert list(left.values()) == [["1m", "5m", "15m", "1h", "1d"], ["5m", "15m", "1h", "1d"], ["1h", "1d"]]


def test_the_current_month_and_those_ahead_are_never_due_however_short_the_retention() -> None:
    shortest = Retention(1, dict.fromkeys(RETENTION.metrics_days, 1))
    now = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    states = {month: state_of(health(month), shortest, now) for month in (Month(2026, 12), Month(2027, 1))}
    assert list(states.values()) == [PartState.CURRENT, PartState.FUTURE]
    assert state_of(health(Month(2026, 12)), shortest, now + SECOND) is PartState.KEPT


def test_a_month_goes_when_it_is_over_and_no_part_of_it_is_left() -> None:
    months = [Month(2026, 1), Month(2026, 2), Month(2026, 3)]
    parts = [metrics(Month(2026, 2), "1d")]
    assert hollow(months, parts, datetime(2026, 3, 31, tzinfo=UTC)) == [Month(2026, 1)]
    assert hollow(months, parts, datetime(2026, 4, 1, tzinfo=UTC)) == [Month(2026, 1), Month(2026, 3)]


def test_the_next_drop_of_each_kind_is_known_ahead() -> None:
    parts = [metrics(Month(2026, number), period) for number in (3, 2) for period in ("1m", "1d")]
    now = datetime(2026, 3, 15, tzinfo=UTC)
    assert next_drops(parts, RETENTION, now) == [
        (datetime(2026, 3, 31, tzinfo=UTC), metrics(Month(2026, 2), "1m")),
        (datetime(2029, 2, 28, tzinfo=UTC), metrics(Month(2026, 2), "1d")),
    ]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("server_metrics_aggregated_2026_01_15m", metrics(Month(2026, 1), "15m")),
        ("server_metrics_aggregated_2026_12", Part("server_metrics_aggregated", Month(2026, 12))),
        ("server_metrics_aggregated_default", None),
        ("server_metrics_aggregated_2026_13", None),
        ("server_metrics_aggregated_2026_01_1m_old", None),
        ("somebody_elses_2026_01", None),
    ],
)
def test_a_partition_is_known_by_its_name(name: str, part: Part | None) -> None:
    assert Part.parse("server_metrics_aggregated", name) == part
    assert part is None or part.name == name
