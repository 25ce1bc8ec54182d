"""How long history is kept, and what is therefore due for dropping."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from opsfleet.domain.metrics import Period
from opsfleet.domain.partitions import Month, Part


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days health checks are kept, and metrics of each period."""

    health_days: int
    metrics_days: Mapping[str, int]

    def kept_until(self, part: Part) -> datetime:
        """Return when a part may go: when its youngest possible row is older than the retention."""
        days = self.health_days if part.period is None else self.metrics_days[part.period]
        return part.month.end + timedelta(days=days)

    @property
    def metrics(self) -> Mapping[Period, timedelta]:
        """How long the metrics of each period are kept."""
        return {Period(period): timedelta(days=days) for period, days in self.metrics_days.items()}

    def health_since(self, now: datetime) -> datetime:
        """Return the oldest moment whose health is still kept at `now`."""
        return now - timedelta(days=self.health_days)


class PartState(StrEnum):
    """What is to happen to a part."""

    FUTURE = "future"
    CURRENT = "current"
    KEPT = "kept"
    DUE = "due"


def state_of(part: Part, retention: Retention, now: datetime) -> PartState:
    """Return the state of a part at `now` (aware). A month that is not over is never due."""
    if now < part.month.start:
        return PartState.FUTURE
    if now < part.month.end:
        return PartState.CURRENT
    return PartState.KEPT if now < retention.kept_until(part) else PartState.DUE


def due(parts: Iterable[Part], retention: Retention, now: datetime) -> list[Part]:
    """Return the parts to drop at `now`, the oldest month first."""
    found = (part for part in parts if state_of(part, retention, now) is PartState.DUE)
    return sorted(found, key=lambda part: (part.month, part.name))


def hollow(months: Iterable[Month], parts: Iterable[Part], now: datetime) -> list[Month]:
    """Return those of the `months` with a partition that are over and of which no part is left."""
    filled = {part.month for part in parts}
    return sorted(month for month in months if month not in filled and month.end <= now)


def next_drops(parts: Iterable[Part], retention: Retention, now: datetime) -> list[tuple[datetime, Part]]:
    """Return, for each table and period, which part goes next and when; what is due already goes at `now`."""
    first: dict[tuple[str, str | None], Part] = {}
    for part in sorted(parts, key=lambda part: part.month):
        first.setdefault((part.table, part.period), part)
    drops = [(max(now, retention.kept_until(part)), part) for part in first.values()]
    return sorted(drops, key=lambda drop: (drop[0], drop[1].name))
