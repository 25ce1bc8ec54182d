"""A forecast is right about what is regular, and honest about the rest."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import exp, lgamma, log1p, pi, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsfleet.domain.costs import DayCost, DayRange
from opsfleet.domain.forecast import T_80, T_95, Forecast, NoForecastError, forecast

MARCH = DayRange(date(2026, 3, 1), date(2026, 4, 1))


def costs_until(last: date, amounts: Sequence[float | None]) -> list[DayCost]:
    first = last - timedelta(days=len(amounts) - 1)
    return [
        DayCost(first + timedelta(days=number), Decimal(str(amount)) if amount is not None else None, None)
        for number, amount in enumerate(amounts)
    ]


def at_end_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def forecast_after(last: date, amounts: Sequence[float | None], spent: float = 0) -> Forecast:
    return forecast(MARCH, Decimal(str(spent)), costs_until(last, amounts), at_end_of(last))


def test_constant_costs_go_on_and_are_certain() -> None:
    found = forecast_after(date(2026, 3, 21), [4] * 40, spent=84)
    assert (found.usd, found.days_used, found.by_weekday) == (124, 28, True)
    assert (found.interval_80.low, found.interval_95.high) == (124, 124)


def test_part_of_today_is_left() -> None:
    days = costs_until(date(2026, 3, 30), [4] * 5)
    found = forecast(MARCH, Decimal(121), days, datetime(2026, 3, 31, 6, tzinfo=UTC))
    assert found.usd == 124
    assert found.pace == {date(2026, 3, 31): Decimal(3)}


def test_a_few_days_are_one_group_with_the_interval_of_the_books() -> None:
    # Mean 3, s = 1, 4 days left of 3 known: 4 * (3 +- t * sqrt(1/4 + 1/3)), Hahn and Meeker 4.8.
    found = forecast_after(date(2026, 3, 27), [2, 3, 4], spent=9)
    assert (found.usd, found.by_weekday) == (21, False)
    half = 4 * sqrt(1 / 4 + 1 / 3)
    assert float(found.interval_80.high) == pytest.approx(21 + 1.886 * half, abs=1e-6)
    assert float(found.interval_80.low) == pytest.approx(21 - 1.886 * half, abs=1e-6)
    assert float(found.interval_95.high) == pytest.approx(21 + 4.303 * half, abs=1e-6)
    assert float(found.interval_95.low) == 9  # never below what is spent


def test_a_trend_is_not_followed_but_shows_as_uncertainty() -> None:
    found = forecast_after(date(2026, 3, 27), list(range(1, 29)), spent=0)
    weekdays = [sum(range(number, 29, 7)) / 4 for number in (1, 2, 3, 4)]  # 28 to 31 March follow the last week
    assert float(found.usd) == pytest.approx(sum(weekdays))
    assert found.interval_95.high > sum((29, 30, 31, 32)) * Decimal("0.6")
    assert found.interval_80.low < found.usd < found.interval_80.high < found.interval_95.high


def test_weekdays_have_their_own_means_from_two_weeks_on() -> None:
    week = [10, 10, 10, 10, 10, 0, 0]  # 2 March 2026 is a Monday
    two = forecast_after(date(2026, 3, 29), week * 2, spent=50)
    assert (two.usd, two.by_weekday) == (70, True)
    assert two.interval_95.low == two.interval_95.high == 70
    less = forecast_after(date(2026, 3, 29), (week * 2)[1:], spent=50)
    assert less.by_weekday is False
    assert float(less.usd) == pytest.approx(50 + 2 * 90 / 13)


def test_days_without_data_are_not_taken_for_free_days() -> None:
    found = forecast_after(date(2026, 3, 29), [4, None, 4, None, 4], spent=12)
    assert (found.usd, found.days_used) == (20, 3)
    gaps = forecast_after(date(2026, 3, 29), [None, *[4] * 13, None, *[4] * 6, None, *[4] * 6], spent=0)
    assert (gaps.usd, gaps.by_weekday) == (8, False)  # one weekday is known once only


def test_only_the_last_28_days_count() -> None:
    assert forecast_after(date(2026, 3, 30), [1000] * 10 + [1] * 28).usd == 1


@pytest.mark.parametrize("amounts", [[], [1], [1, 2], [None] * 28, [1, *[None] * 20, 2]])
def test_too_few_days_give_none_and_say_why(amounts: list[float | None]) -> None:
    with pytest.raises(NoForecastError, match="3 are needed"):
        forecast_after(date(2026, 3, 15), amounts)


def test_a_month_that_is_over_needs_none() -> None:
    with pytest.raises(NoForecastError, match="over"):
        forecast_after(date(2026, 3, 31), [1] * 28)


@given(amounts=st.lists(st.one_of(st.none(), st.floats(0, 1e6)), min_size=3, max_size=40), spent=st.integers(0, 10**7))
def test_intervals_lie_inside_each_other_and_above_what_is_spent(amounts: list[float | None], spent: int) -> None:
    try:
        found = forecast_after(date(2026, 3, 10), amounts, spent=spent)
    except NoForecastError:
        return
    assert spent <= found.interval_95.low <= found.interval_80.low <= found.usd
    assert found.usd <= found.interval_80.high <= found.interval_95.high


def distribution_of_t(quantile: float, freedom: int, steps: int = 2_000) -> float:
    """Integrate the density of Student's t from 0 by Simpson's rule."""
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(freedom * pi)
    width = quantile / steps
    values = [scale * exp(-(freedom + 1) / 2 * log1p((n * width) ** 2 / freedom)) for n in range(steps + 1)]
    return 0.5 + width / 3 * (values[0] + 4 * sum(values[1::2]) + 2 * sum(values[2:-1:2]) + values[-1])


def test_the_table_of_t_is_right() -> None:
    assert len(T_80) == len(T_95) == 27
    for freedom, (ninety, ninety_seven) in enumerate(zip(T_80, T_95, strict=True), 1):
        assert distribution_of_t(ninety, freedom) == pytest.approx(0.9, abs=1e-4)
        assert distribution_of_t(ninety_seven, freedom) == pytest.approx(0.975, abs=1e-4)
