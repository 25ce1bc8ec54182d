"""Letting old history go: whole partitions, archived before when a folder for that is set, and rows of small tables."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from opsfleet.domain.errors import ArchiveError, PartitionBusyError
from opsfleet.domain.partitions import Part
from opsfleet.domain.retention import Retention, due, hollow
from opsfleet.services.archive import Archive
from opsfleet.services.maintenance import PARTITIONED
from opsfleet.store import expired, part_contents, partitions
from opsfleet.store.database import Connection, Database
from opsfleet.store.part_contents import Contents
from opsfleet.store.partitions import PartitionedTable

_ROWS_AT_ONCE = 1_000
_TRIES = 3

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Enforced:
    """The partitions that were dropped, and those that are due and could not be dropped this time."""

    dropped: list[str] = field(default_factory=list)
    put_off: list[str] = field(default_factory=list)


class RetentionService:
    """Drops what is past its retention. Without an `archive` it is gone for good."""

    def __init__(self, database: Database, retention: Retention, archive: Archive | None = None) -> None:
        self._database = database
        self.retention = retention
        self.archive = archive

    async def enforce(self, now: datetime | None = None) -> Enforced:
        """Drop what is due; does nothing while another process does it.

        What cannot be archived, is not rolled up yet or is in use stays, with a line in the log, until the next time.

        Raises:
            DatabaseUnavailableError: when the database is away; what was done until then is done.
        """
        now = now or datetime.now(UTC)
        enforced = Enforced()
        async with partitions.alone(self._database) as alone:
            if not alone:
                return enforced
            if self.archive is not None:
                await self.archive.tidy()
            for table in PARTITIONED:
                for part in due(await self._parts(table), self.retention, now):
                    gone = await self._let_go(table, part)
                    (enforced.dropped if gone else enforced.put_off).append(part.name)
                enforced.dropped += await self._drop_hollow(table, now)
            await self._forget(now)
        return enforced

    async def _parts(self, table: PartitionedTable) -> list[Part]:
        async with self._database.connection() as connection:
            return table.leaves(await partitions.existing(connection, table.name))

    async def _let_go(self, table: PartitionedTable, part: Part) -> bool:
        try:
            for _ in range(_TRIES):
                if await self._is_needed(table, part):
                    logger.warning(f"Partition {part.name} is kept: it is not rolled up yet", partition=part.name)
                    return False
                if await self._archive_and_drop(table, part):
                    return True
            logger.warning(f"Partition {part.name} is kept: rows are still written to it", partition=part.name)
        except ArchiveError as error:
            logger.error(f"Partition {part.name} is kept, it could not be archived: {error}", partition=part.name)
        except PartitionBusyError as error:
            logger.warning(f"Partition {part.name} is kept for now: {error}", partition=part.name)
        return False

    async def _archive_and_drop(self, table: PartitionedTable, part: Part) -> bool:
        archived: Contents | None = None
        if self.archive is not None:
            archived = await self.archive.store(self._database, part)

        async def may_go(connection: Connection) -> bool:
            if table.periods and part.month in await partitions.months_to_roll_up(connection):
                return False
            return archived is None or await part_contents.mark(connection, part.name) == archived.mark

        gone = await partitions.drop(self._database, part.name, may_go)
        if gone:
            rows = archived.totals.rows if archived is not None else None
            kept = f", {rows} rows archived" if rows else ""
            logger.info(f"Partition {part.name} dropped: past its retention{kept}", partition=part.name, archived=rows)
        return gone

    async def _is_needed(self, table: PartitionedTable, part: Part) -> bool:
        if not table.periods:
            return False
        async with self._database.connection() as connection:
            return part.month in await partitions.months_to_roll_up(connection)

    async def _drop_hollow(self, table: PartitionedTable, now: datetime) -> list[str]:
        if not table.periods:
            return []
        async with self._database.connection() as connection:
            names = await partitions.existing(connection, table.name)
        dropped = []
        for month in hollow(table.months(names), table.leaves(names), now):
            name = month.partition(table.name)
            try:
                if await partitions.drop_hollow(self._database, name):
                    dropped.append(name)
                    logger.info(f"Partition {name} dropped: no part of it is left", partition=name)
            except PartitionBusyError as error:
                logger.warning(f"Partition {name} is kept for now: {error}", partition=name)
        return dropped

    async def _forget(self, now: datetime) -> None:
        before = self.retention.health_since(now)
        deleted = _ROWS_AT_ONCE
        while deleted >= _ROWS_AT_ONCE:
            async with self._database.transaction() as connection:
                deleted = await expired.delete(connection, before, _ROWS_AT_ONCE)
