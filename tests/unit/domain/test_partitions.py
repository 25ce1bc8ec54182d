"""Months are UTC months, whatever the zone of the moment."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from opsfleet.domain.partitions import Month, months_to_keep_ready


def test_the_current_month_and_the_next_two_are_kept_ready_across_a_year_end() -> None:
    names = [month.partition("t") for month in months_to_keep_ready(datetime(2026, 11, 30, 23, 59, tzinfo=UTC))]
    assert names == ["t_2026_11", "t_2026_12", "t_2027_01"]


def test_a_moment_in_another_zone_counts_for_its_utc_month() -> None:
    new_year_in_tokyo = datetime(2027, 1, 1, 3, tzinfo=timezone(timedelta(hours=9)))
    assert Month.of(new_year_in_tokyo) == Month(2026, 12)


@pytest.mark.parametrize(
    ("month", "days"), [(Month(2028, 2), 29), (Month(2026, 2), 28), (Month(2100, 2), 28), (Month(2026, 12), 31)]
)
def test_months_touch_each_other(month: Month, days: int) -> None:
    assert month.end - month.start == timedelta(days=days)
    assert month.next().start == month.end
