"""Upkeep of the database: partitions ahead of time, strays moved, history of removed servers dropped."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import structlog

from opsfleet.domain.metrics import Period
from opsfleet.domain.partitions import Month, months_to_keep_ready
from opsfleet.store import facts, health_checks, metrics, partitions, removed_servers, rollups
from opsfleet.store.database import Database
from opsfleet.store.facts import DatabaseFacts
from opsfleet.store.partitions import PartitionedTable

PARTITIONED = (
    PartitionedTable(health_checks.TABLE),
    metrics.SERVER_METRICS,
    metrics.FLEET_METRICS,
)

_PURGE_AT_ONCE = 100

logger = structlog.get_logger(__name__)


class MaintenanceService:
    """Keeps the partitioned tables in order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure_partitions(self, now: datetime | None = None, *, also: Iterable[Month] = ()) -> list[str]:
        """Make the partitions of this month and the next two where they are missing, and empty the default ones.

        Those of the months in `also` are made too.

        Returns the names of the partitions made. Safe to run at any time and from several processes.
        """
        made: list[str] = []
        for table in PARTITIONED:
            async with self._database.connection() as connection:
                strays = await partitions.stray_months(connection, table.name)
            months = sorted({*months_to_keep_ready(now or datetime.now(UTC)), *strays, *also})
            for created in await partitions.ensure(self._database, table, months):
                made.append(created.name)
                if created.moved:
                    logger.warning(
                        f"Partition {created.name} was missing: {created.moved} rows were moved into it",
                        event_kind="partition_strays_moved",
                        partition=created.name,
                        rows=created.moved,
                    )
                await self._note_to_fill(table, created.name, months, now or datetime.now(UTC))
        return made

    async def _note_to_fill(self, table: PartitionedTable, name: str, months: Collection[Month], now: datetime) -> None:
        """Note that a part of roll-ups, made again in a month that was there, is to be filled from the finer rows."""
        for month in months:
            for period, part in zip(table.periods, table.parts(month)[1:], strict=True):
                collected = table is metrics.SERVER_METRICS and period == Period.MINUTE
                if part == name and not collected and month.start < now:
                    async with self._database.transaction() as connection:
                        await rollups.note_all(connection, Period(period), month.start, min(month.end, now))

    async def repair_current_month(self, now: datetime | None = None) -> None:
        """Make this month's partitions again where somebody dropped them, and say so; nothing is lost meanwhile."""
        await self.repair({Month.of(now or datetime.now(UTC))}, now)

    async def repair(self, months: Collection[Month], now: datetime | None = None) -> None:
        """Make the partitions of `months` again where they are missing, and say so.

        Raises:
            DatabaseUnavailableError: when it cannot be done now.
        """
        missing: list[str] = []
        for table in PARTITIONED:
            async with self._database.connection() as connection:
                present = await partitions.existing(connection, table.name)
            for month in sorted(months):
                missing += missing_of(table, month, present)
        for name in missing:
            logger.error(f"PARTITION MISSING: {name} does not exist!", event_kind="partition_missing", partition=name)
        if missing:
            await self.ensure_partitions(now, also=months)

    async def missing_partitions(self, now: datetime | None = None) -> tuple[list[str], bool]:
        """Return the partitions that should be there and are not, and whether rows lie in a default partition."""
        missing: list[str] = []
        strays = False
        for table in PARTITIONED:
            async with self._database.connection() as connection:
                present = await partitions.existing(connection, table.name)
                strays = strays or bool(await partitions.stray_months(connection, table.name))
            for month in months_to_keep_ready(now or datetime.now(UTC)):
                missing += missing_of(table, month, present)
        return missing, strays

    async def facts(self) -> DatabaseFacts:
        """Return what there is to know of the database itself."""
        async with self._database.connection() as connection:
            return await facts.read(connection)

    async def purge_removed(self) -> int:
        """Drop the history of servers that were removed; return of how many."""
        async with self._database.connection() as connection:
            removed = await removed_servers.select(connection, _PURGE_AT_ONCE)
        for server_id in removed:
            async with self._database.transaction() as connection:
                await removed_servers.purge(connection, server_id)
        return len(removed)


def missing_of(table: PartitionedTable, month: Month, present: Collection[str]) -> list[str]:
    """Return what is not there of a month: the month's partition, which comes with its parts, or single parts."""
    name, *parts = table.parts(month)
    if name not in present:
        return [name]
    return [part for part in parts if part not in present]
