"""Costs of language models over a range of days: what they are told by, their shares and changes.

Amounts are exact decimals of US dollars; they are added up and never rounded, but shares and changes are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from opsfleet.domain.errors import FieldError, InvalidError

MAX_DAYS = 1_100
"""A range may be as long as daily figures are kept by default, three years."""

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

_MICRO = Decimal("0.000001")
_WHOLE = 10_000  # hundredths of a percent


class CostKey(StrEnum):
    """What costs are told by."""

    SERVER = "server"
    REGION = "region"
    ENVIRONMENT = "environment"
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class DayRange:
    """UTC days from `start` to the one before `end`."""

    start: date
    end: date

    @property
    def before(self) -> "DayRange":
        """The range of equal length that ends where this one starts."""
        return DayRange(self.start - (self.end - self.start), self.start)

    @property
    def days(self) -> list[date]:
        """Each day of the range."""
        return [self.start + DAY * number for number in range((self.end - self.start).days)]


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent, in US dollars, and for how many requests, in a range and in the range before it."""

    usd: Decimal = Decimal(0)
    requests: int = 0
    usd_before: Decimal = Decimal(0)
    requests_before: int = 0

    @property
    def change_percent(self) -> float | None:
        """By how much the cost changed, in percent of what it was before; None when it was nothing."""
        if not self.usd_before:
            return None
        return float(round((self.usd - self.usd_before) / self.usd_before * 100, 2))

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.usd + other.usd,
            self.requests + other.requests,
            self.usd_before + other.usd_before,
            self.requests_before + other.requests_before,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(
            self.usd - other.usd,
            self.requests - other.requests,
            self.usd_before - other.usd_before,
            self.requests_before - other.requests_before,
        )


@dataclass(frozen=True, slots=True)
class DayCost:
    """What one UTC day cost; None where nothing was collected."""

    day: date
    usd: Decimal | None
    requests: int | None


@dataclass(frozen=True, slots=True)
class KeyCost:
    """What one server, region, environment or tag cost.

    `key` is a server's id, or a name; it is None for servers that have none. `name` is a server's.
    """

    key: str | None
    name: str | None
    cost: Cost


def day_range(start: str | None, end: str | None, now: datetime) -> DayRange:
    """Return the range between two dates as people write them (`2026-11-01`), `end` excluded.

    Without `end` it goes on to the end of today, and without `start` it begins with the month of its last day.

    Raises:
        InvalidError: when a date is none, or the range is empty or too long.
    """
    last = _date("end", end) if end is not None else now.astimezone(UTC).date() + DAY
    first = _date("start", start) if start is not None else (last - DAY).replace(day=1)
    if first >= last:
        raise InvalidError([FieldError("start", f"must be before the end, {last}, which is excluded")])
    if (last - first).days > MAX_DAYS:
        raise InvalidError([FieldError("start", f"must be at most {MAX_DAYS} days before the end")])
    return DayRange(first, last)


def _date(name: str, text: str) -> date:
    try:
        found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        found = None
    # Room on both sides: the range before must exist, and so must the moment at which the last day ends.
    if found is None or not 2000 <= found.year <= 9000:
        raise InvalidError([FieldError(name, "must be a date such as 2026-11-01")])
    return found


def day_start(day: date) -> datetime:
    """Return the first moment of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def hour_start(moment: datetime) -> datetime:
    """Return the start of the UTC hour that `moment` lies in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def usd(amount: Decimal | None) -> str | None:
    """Return an amount as it travels: a text with six places, which is exact whatever reads it."""
    return f"{amount.quantize(_MICRO):f}" if amount is not None else None


def shares(parts: Sequence[Decimal]) -> list[float | None]:
    """Return the share of each part in the whole, in percent with two places, which add up to exactly 100.

    By the method of the largest remainder (Hamilton): each is rounded down, and what is missing goes, a hundredth
    each, to those that lost the most. None for each when the whole is nothing.
    """
    whole = sum(parts, Decimal(0))
    if not whole:
        return [None] * len(parts)
    exact = [part * _WHOLE / whole for part in parts]
    found = [int(value) for value in exact]
    missing = _WHOLE - sum(found)
    losers = sorted(range(len(parts)), key=lambda position: (found[position] - exact[position], position))
    for position in losers[:missing]:
        found[position] += 1
    return [value / 100 for value in found]


def share(part: Decimal, whole: Decimal) -> float | None:
    """Return the share of `part` in `whole`, in percent with two places; None when the whole is nothing."""
    return float(round(part / whole * 100, 2)) if whole else None
