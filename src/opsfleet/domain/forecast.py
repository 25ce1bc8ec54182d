"""What a month will have cost at its end, and how sure that is.

The cost of a day is taken as mu + e: mu is the mean of its weekday where two weeks of complete days are known, else
the mean of all, and e is noise of the same variance on every day. With n days known in k groups (7 weekdays, or 1),
s^2 is the sum of squared residuals / (n - k). What remains of a month are fractions f of days (1 each, less for
today); F is the sum of the fractions in a group, and n_g the days known of it. The forecast of what remains is
sum(F * mean), and its prediction interval

    sum(F * mean) +- t(n - k) * s * sqrt(sum(f) + sum(F^2 / n_g))

The first sum under the root is the variance of the single days, the second that of the means, which are estimates
themselves. For one group and m whole days this is m times the interval for the mean of m future observations,
mean +- t(n - 1) * s * sqrt(1/m + 1/n): Hahn and Meeker, Statistical Intervals, 1991, section 4.8; for a single day it
is the mean method of Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd edition, section 5.5.

It knows no trend: a steady rise shows as a wide interval and is underestimated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import fsum, sqrt

from opsfleet.domain.costs import DAY, DayCost, DayRange, day_start

MIN_DAYS = 3
MAX_DAYS = 28
WEEKDAY_DAYS = 14
_MIN_PER_WEEKDAY = 2

# Quantiles of Student's t by degrees of freedom from 1: at 0.9 for an interval of 80 %, at 0.975 for one of 95 %.
T_80 = (
    3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397, 1.383, 1.372, 1.363, 1.356, 1.350, 1.345,
    1.341, 1.337, 1.333, 1.330, 1.328, 1.325, 1.323, 1.321, 1.319, 1.318, 1.316, 1.315, 1.314,
)  # fmt: skip
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
    2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true amount lies with a stated probability, in US dollars."""

    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a month will have cost at its end, in US dollars, from `days_used` complete days.

    `by_weekday` says whether each weekday has a mean of its own. `pace` is the mean for each remaining day of the
    month, the first of them maybe in part.
    """

    usd: Decimal
    interval_80: Interval
    interval_95: Interval
    days_used: int
    by_weekday: bool
    pace: Mapping[date, Decimal]


class NoForecastError(Exception):
    """There is none, for the reason that the message gives."""


def complete_days(days: Sequence[DayCost], as_of: datetime) -> list[tuple[date, float]]:
    """Return the last days that were over at `as_of` and have a cost, at most 28 and of the last 28, oldest first."""
    newest = as_of.date()
    oldest = newest - timedelta(days=MAX_DAYS)
    return [(item.day, float(item.usd)) for item in days if item.usd is not None and oldest <= item.day < newest]


def forecast(month: DayRange, spent: Decimal, days: Sequence[DayCost], as_of: datetime) -> Forecast:
    """Return the cost of `month` at its end, of which `spent` was spent at `as_of` (UTC).

    `days` are the daily costs known, those of the month before included. Nothing is below what is spent already.

    Raises:
        NoForecastError: when the month is over, or fewer than three complete days are known.
    """
    if as_of >= day_start(month.end):
        raise NoForecastError("the month is over")
    known = complete_days(days, as_of)
    if len(known) < MIN_DAYS:
        raise NoForecastError(f"{len(known)} complete days of the last {MAX_DAYS} are known; {MIN_DAYS} are needed")
    by_weekday = _has_each_weekday(known)
    group: Callable[[date], int] = date.weekday if by_weekday else _no_group
    means, counts = _means(known, group)
    residuals = fsum((value - means[group(day)]) ** 2 for day, value in known)
    freedom = len(known) - len(means)
    fractions = {day: left for day in month.days if (left := _left_of(day, as_of)) > 0}
    per_group: dict[int, float] = {}
    for day, left in fractions.items():
        per_group[group(day)] = per_group.get(group(day), 0.0) + left
    expected = float(spent) + fsum(total * means[number] for number, total in per_group.items())
    variance = fsum(fractions.values()) + fsum(total**2 / counts[number] for number, total in per_group.items())
    deviation = sqrt(residuals / freedom) * sqrt(variance)

    def interval(quantile: float) -> Interval:
        low, high = expected - quantile * deviation, expected + quantile * deviation
        return Interval(_at_least(spent, low), _at_least(spent, high))

    return Forecast(
        usd=_at_least(spent, expected),
        interval_80=interval(T_80[freedom - 1]),
        interval_95=interval(T_95[freedom - 1]),
        days_used=len(known),
        by_weekday=by_weekday,
        pace={day: Decimal(left * means[group(day)]) for day, left in fractions.items()},
    )


def reached_on(amount: Decimal, month: DayRange, days: Sequence[DayCost], pace: Mapping[date, Decimal]) -> date | None:
    """Return the day of `month` on which costs reach `amount`, at `pace` for what remains; None when not in it.

    `days` are the costs so far. What is already spent on a day in part counts before what remains of it.
    """
    so_far = {item.day: item.usd for item in days if item.usd is not None}
    total = Decimal(0)
    for day in month.days:
        total += so_far.get(day, Decimal(0)) + pace.get(day, Decimal(0))
        if total >= amount:
            return day
    return None


def _has_each_weekday(known: Sequence[tuple[date, float]]) -> bool:
    if len(known) < WEEKDAY_DAYS:
        return False
    _, counts = _means(known, date.weekday)
    return len(counts) == 7 and min(counts.values()) >= _MIN_PER_WEEKDAY


def _means(
    known: Sequence[tuple[date, float]], group: Callable[[date], int]
) -> tuple[dict[int, float], dict[int, int]]:
    values: dict[int, list[float]] = {}
    for day, value in known:
        values.setdefault(group(day), []).append(value)
    counts = {number: len(found) for number, found in values.items()}
    return {number: fsum(found) / counts[number] for number, found in values.items()}, counts


def _no_group(_: date) -> int:
    return 0


def _left_of(day: date, as_of: datetime) -> float:
    return min(1.0, (day_start(day + DAY) - as_of) / DAY)


def _at_least(spent: Decimal, amount: float) -> Decimal:
    return max(spent, round(Decimal(amount), 6))
