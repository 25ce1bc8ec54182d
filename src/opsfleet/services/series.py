"""Series of metrics: which period answers a range, and the rows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from opsfleet.domain.errors import NotFoundError
from opsfleet.domain.metrics import NEVER_COLLECTED, LastCollection, Period
from opsfleet.domain.series import GroupBy, Span, period_of, span_of
from opsfleet.store import fleet_series, metrics, series, servers
from opsfleet.store.database import Database
from opsfleet.store.fleet_series import FleetFilter


@dataclass(frozen=True, slots=True)
class ServerSeries:
    """One server's metrics. `rows` are buckets' starts and the values of `domain.series.COLUMNS`, oldest first."""

    server_id: UUID
    period: Period
    span: Span
    rows: Sequence[Sequence[Any]]
    last: LastCollection


@dataclass(frozen=True, slots=True)
class KeySeries:
    """The metrics of the servers under one key, of which `label` is the name for people; both null for no key.

    `rows` are buckets' starts and the values of `domain.series.FLEET_COLUMNS`, oldest first.
    """

    key: str | None
    label: str | None
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class FleetSeries:
    """Many servers' metrics together: one series for each key, in the order of their labels."""

    group_by: GroupBy
    period: Period
    span: Span
    series: Sequence[KeySeries]


class SeriesService:
    """Answers with series of metrics. `kept` says how long the rows of each period are kept."""

    def __init__(self, database: Database, kept: Mapping[Period, timedelta]) -> None:
        self._database = database
        self._kept = kept

    async def of_server(
        self,
        organization_id: UUID,
        server_id: UUID,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        period: Period | None = None,
    ) -> ServerSeries:
        """Return one server's metrics in `[start, end)`: the last day unless given, in a fitting period unless given.

        Raises:
            InvalidError: when the range runs backwards, is too long, or makes too many points.
            NotFoundError: when the organization has no such server.
        """
        now = datetime.now(UTC)
        span = span_of(start, end, now)
        taken = period_of(span, period, self._kept, now)
        async with self._database.transaction() as connection:
            if await servers.get(connection, organization_id, server_id) is None:
                raise NotFoundError(f"there is no server {server_id}")
            last = await metrics.last_of(connection, organization_id, server_id)
            rows = await series.select(
                connection, organization_id, server_id, taken, start=span.first(taken), end=span.end
            )
        return ServerSeries(server_id, taken, span, rows, last or NEVER_COLLECTED)

    async def of_fleet(
        self,
        organization_id: UUID,
        group_by: GroupBy,
        wanted: FleetFilter,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        period: Period | None = None,
    ) -> FleetSeries:
        """Return the metrics of the wanted servers together in `[start, end)`; defaults are those of `of_server`.

        By region and environment a server counts for what it was then; by group and tag, for what it is now.

        Raises:
            InvalidError: when the range runs backwards, is too long, or is too much to read or to return.
            NotFoundError: when the organization has no group of the wanted id.
        """
        now = datetime.now(UTC)
        span = span_of(start, end, now)
        async with self._database.transaction() as connection:
            names: Mapping[str, str] = {}
            if group_by is GroupBy.GROUP or wanted.group_id is not None:
                names = await fleet_series.group_names(connection, organization_id)
            if wanted.group_id is not None and str(wanted.group_id) not in names:
                raise NotFoundError(f"there is no group {wanted.group_id}")
            width = await fleet_series.width(connection, organization_id, group_by, wanted)
            taken = period_of(span, period, self._kept, now, series=width.series, rows_per_bucket=width.rows_per_bucket)
            rows = await fleet_series.select(
                connection, organization_id, group_by, wanted, taken, start=span.first(taken), end=span.end
            )
        found = [KeySeries(key or None, names.get(key, key) or None, of_key) for key, of_key in rows.items()]
        found.sort(key=lambda series: (series.label is None, series.label or ""))
        return FleetSeries(group_by, taken, span, found)
