"""The fleet at a glance."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.metrics import MINUTE, minute_of
from opsfleet.domain.servers import ServerStatus
from opsfleet.store import summary
from opsfleet.store.database import Database
from opsfleet.store.summary import FleetMinute, ServerCount

Key = TypeVar("Key")

FRESH = timedelta(minutes=5)
"""Metrics older than this say nothing of the present."""

UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """What an organization's fleet is now.

    `by_health` counts active servers only, as only they are checked. Places without a name count under null. `minute`
    is the newest finished minute of metrics, or null when there is none that is fresh. `llm_requests` and
    `llm_cost_usd` are of `day` (UTC) so far.
    """

    by_status: Mapping[str, int]
    by_health: Mapping[str, int]
    regions: Mapping[str | None, int]
    environments: Mapping[str | None, int]
    minute: FleetMinute | None
    day: date
    llm_requests: int
    llm_cost_usd: Decimal


class SummaryService:
    """Sums up fleets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_organization(self, organization_id: UUID, now: datetime | None = None) -> FleetSummary:
        """Return the summary of an organization's fleet; `now` is the present unless given."""
        now = now or datetime.now(UTC)
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        newest = minute_of(now) - MINUTE
        async with self._database.connection() as connection:
            counts = await summary.counts(connection, organization_id)
            minute = await summary.newest_minute(connection, organization_id, since=now - FRESH, until=newest)
            requests, cost = await summary.llm_of_day(connection, organization_id, day)
        active = [count for count in counts if count.status is ServerStatus.ACTIVE]
        return FleetSummary(
            by_status={**dict.fromkeys(ServerStatus, 0), **_sums(counts, lambda count: count.status)},
            by_health={
                **dict.fromkeys((*HealthStatus, UNCHECKED), 0),
                **_sums(active, lambda count: count.health or UNCHECKED),
            },
            regions=_sums(counts, lambda count: count.region),
            environments=_sums(counts, lambda count: count.environment),
            minute=minute,
            day=day.date(),
            llm_requests=requests,
            llm_cost_usd=cost,
        )


def _sums(counts: Sequence[ServerCount], key: Callable[[ServerCount], Key]) -> dict[Key, int]:
    found: Counter[Key] = Counter()
    for count in counts:
        found[key(count)] += count.servers
    return dict(found)
