"""Series of metrics: the range they cover, the period that suits it, and their regular grid of buckets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from opsfleet.domain.errors import FieldError, InvalidError
from opsfleet.domain.metrics import Period

USUAL_POINTS = 1_000
"""A period is chosen so that a series has about so many points at most."""

MAX_POINTS = 20_000
"""All series of an answer together have no more points than this."""

MAX_ROWS = 300_000
"""So many stored rows are read for one answer, at most."""

DEFAULT_RANGE = timedelta(days=1)
MAX_RANGE = timedelta(days=3_653)

PERCENTAGES = ("cpu_percent", "memory_percent", "disk_percent")
COUNTERS = ("network_rx_bytes", "network_tx_bytes", "llm_requests", "llm_cost_usd")
GAUGES = ("active_services", "failed_services", "total_services", "active_users", "total_users")

COLUMNS = (
    *(column for name in PERCENTAGES for column in (name, f"{name}_max")),
    *COUNTERS,
    *GAUGES,
    "sample_count",
)
"""The columns of one server's series."""

FLEET_COLUMNS = (*COLUMNS, "servers")
"""The columns of a series of several servers."""


class GroupBy(StrEnum):
    """What the series of several servers are made by."""

    NONE = "none"
    REGION = "region"
    ENVIRONMENT = "environment"
    GROUP = "group"
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time, `end` excluded; both are UTC."""

    start: datetime
    end: datetime

    def first(self, period: Period) -> datetime:
        """Return the start of the first bucket that has a share in the range."""
        return period.start_of(self.start)

    def buckets(self, period: Period) -> int:
        """Return how many buckets have a share in the range."""
        if self.start >= self.end:
            return 0
        return -((self.first(period) - self.end) // period.length)

    def grid(self, period: Period) -> list[datetime]:
        """Return the starts of those buckets."""
        first, length = self.first(period), period.length
        return [first + number * length for number in range(self.buckets(period))]


def span_of(start: datetime | None, end: datetime | None, now: datetime) -> Span:
    """Return the range from `start` to `end`: the day before `end`, and until `now`, unless they are given.

    Raises:
        InvalidError: when it runs backwards or is longer than ten years.
    """
    until = end if end is not None else now
    try:
        since = start if start is not None else until - DEFAULT_RANGE
    except OverflowError:
        since = until
    if since > until:
        raise InvalidError([FieldError("start", "must not be after end")])
    if until - since > MAX_RANGE:
        raise InvalidError([FieldError("start", "must be at most ten years before end")])
    return Span(since, until)


def period_of(
    span: Span,
    wanted: Period | None,
    kept: Mapping[Period, timedelta],
    now: datetime,
    *,
    series: int = 1,
    rows_per_bucket: int = 1,
) -> Period:
    """Return the period that a range is answered in.

    That is `wanted` when it is given. Else it is the finest that gives about 1,000 points at most, is still `kept` at
    the start of the range, and lets so many `series` and stored `rows_per_bucket` stay within the limits.

    Raises:
        InvalidError: when the answer would be too large.
    """
    most = min(MAX_POINTS // max(1, series), MAX_ROWS // max(1, rows_per_bucket))
    if wanted is None:
        usual = min(USUAL_POINTS, most)
        for period in Period:
            if span.buckets(period) <= usual and span.start >= now - kept[period]:
                return period
    period = wanted or Period.DAY
    points = span.buckets(period)
    if points > most:
        field = "period" if wanted not in {None, Period.DAY} else "start"
        raise InvalidError([FieldError(field, _too_much(period, points, series, rows_per_bucket))])
    return period


def _too_much(period: Period, points: int, series: int, rows_per_bucket: int) -> str:
    if points * series > MAX_POINTS:
        what = f"{points * series:,} points; at most {MAX_POINTS:,} are returned"
    else:
        what = f"{points * rows_per_bucket:,} rows to read; at most {MAX_ROWS:,} are read"
    return f"makes {what}: take a shorter range{'' if period is Period.DAY else ' or a longer period'}"


def columns_of(
    names: Sequence[str], rows: Sequence[Sequence[Any]], span: Span, period: Period
) -> dict[str, list[Any | None]]:
    """Return `rows`, each a bucket's start and then the values of `names`, as columns on the grid of the range.

    A bucket without a row is null in every column.
    """
    points = span.buckets(period)
    if not rows:
        return {name: [None] * points for name in names}
    first, length = span.first(period), period.length
    moments, *columns = zip(*rows, strict=True)
    places = [(moment - first) // length for moment in moments]
    found: dict[str, list[Any | None]] = {}
    for name, values in zip(names, columns, strict=True):
        column: list[Any | None] = [None] * points
        for place, value in zip(places, values, strict=True):
            column[place] = value
        found[name] = column
    return found
