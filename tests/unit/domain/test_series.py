"""Series: which period suits a range, and where its buckets lie."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsfleet.domain.errors import InvalidError
from opsfleet.domain.metrics import Period
from opsfleet.domain.series import MAX_POINTS, Span, columns_of, period_of, span_of

NOW = datetime(2026, 1, 26, 14, 30, 15, tzinfo=UTC)
KEPT = {
    Period.MINUTE: timedelta(days=30),
    Period.FIVE_MINUTES: timedelta(days=180),
    Period.QUARTER: timedelta(days=180),
    Period.HOUR: timedelta(days=1_095),
    Period.DAY: timedelta(days=1_095),
}


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


@pytest.mark.parametrize(
    ("span", "period"),
    [
        (Span(ago(hours=1), NOW), "1m"),
        (Span(ago(hours=16), NOW), "1m"),
        (Span(ago(days=1), NOW), "5m"),
        (Span(ago(days=7), NOW), "15m"),
        (Span(ago(days=30), NOW), "1h"),
        (Span(ago(days=365), NOW), "1d"),
        (Span(ago(days=3_652), NOW), "1d"),
        (Span(ago(days=40), ago(days=40, hours=-1)), "5m"),
        (Span(ago(days=200), ago(days=200, hours=-1)), "1h"),
        (Span(ago(days=2_000), ago(days=2_000, hours=-1)), "1d"),
    ],
)
def test_the_finest_period_that_fits_and_is_still_kept_is_taken(span: Span, period: str) -> None:
    assert period_of(span, None, KEPT, NOW) == period


def test_many_servers_and_many_series_take_a_longer_period() -> None:
    day = Span(ago(days=1), NOW)
    assert period_of(day, None, KEPT, NOW, rows_per_bucket=1_000) == "5m"
    assert period_of(day, None, KEPT, NOW, rows_per_bucket=2_000) == "15m"
    assert period_of(day, None, KEPT, NOW, rows_per_bucket=10_000) == "1h"
    assert period_of(day, None, KEPT, NOW, series=100) == "15m"


@pytest.mark.parametrize(
    ("days", "wanted", "limits", "field", "words"),
    [
        (14, Period.MINUTE, {}, "period", "20,161 points; at most 20,000 are returned"),
        (1, Period.MINUTE, {"series": 20}, "period", "28,820 points"),
        (1, Period.MINUTE, {"rows_per_bucket": 1_000}, "period", "1,441,000 rows to read; at most 300,000 are read"),
        (60, None, {"rows_per_bucket": 10_000}, "start", "610,000 rows to read"),
        (60, Period.DAY, {"rows_per_bucket": 10_000}, "start", "take a shorter range"),
    ],
)
def test_what_is_too_much_is_refused_with_a_remedy(
    days: int, wanted: Period | None, limits: dict[str, int], field: str, words: str
) -> None:
    with pytest.raises(InvalidError) as refused:
        period_of(Span(ago(days=days), NOW), wanted, KEPT, NOW, **limits)
    (error,) = refused.value.errors
    assert error.field == field
    assert words in error.message


def test_a_range_has_its_defaults_and_its_limits() -> None:
    assert span_of(None, None, NOW) == Span(ago(days=1), NOW)
    assert span_of(None, ago(days=3), NOW) == Span(ago(days=4), ago(days=3))
    assert span_of(None, datetime.min.replace(tzinfo=UTC), NOW).buckets(Period.MINUTE) == 0
    for start, end in ((NOW, ago(hours=1)), (ago(days=3_654), NOW)):
        with pytest.raises(InvalidError, match=r"^start: must"):
            span_of(start, end, NOW)


def test_values_stand_at_their_place_and_gaps_are_null() -> None:
    span = Span(datetime(2026, 1, 26, 14, 2, tzinfo=UTC), datetime(2026, 1, 26, 14, 20, tzinfo=UTC))
    rows = [
        (datetime(2026, 1, 26, 14, 0, tzinfo=UTC), 1.5, 0),
        (datetime(2026, 1, 26, 14, 15, tzinfo=UTC), None, 4),
    ]
    assert [moment.minute for moment in span.grid(Period.FIVE_MINUTES)] == [0, 5, 10, 15]
    assert columns_of(("cpu", "users"), rows, span, Period.FIVE_MINUTES) == {
        "cpu": [1.5, None, None, None],
        "users": [0, None, None, 4],
    }
    assert columns_of(("cpu",), [], span, Period.QUARTER) == {"cpu": [None, None]}


@given(
    start=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
    length=st.timedeltas(timedelta(), timedelta(days=12)),
    period=st.sampled_from(Period),
)
def test_the_grid_is_regular_and_covers_exactly_the_range(start: datetime, length: timedelta, period: Period) -> None:
    span = Span(start, start + length)
    grid = span.grid(period)
    assert len(grid) == span.buckets(period) <= MAX_POINTS
    assert all(moment == period.start_of(moment) for moment in grid)
    if length:
        assert grid[0] <= span.start < grid[0] + period.length
        assert grid[-1] < span.end <= grid[-1] + period.length
        assert grid[-1] - grid[0] == (len(grid) - 1) * period.length
    else:
        assert grid == []
