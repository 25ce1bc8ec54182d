"""Partitions by month and, inside a month, by period: finding, making, dropping, and emptying the default one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import TypeVar

import asyncpg

from opsfleet.domain.errors import PartitionBusyError
from opsfleet.domain.partitions import Month, Part
from opsfleet.store.database import Connection, Database

Result = TypeVar("Result")

LOCK_TIMEOUT = "500ms"
"""How long inserts may stall behind a partition that is being attached or dropped."""

PAUSE_SECONDS = 0.2
"""How long what stalled may flow before the next try."""

ATTEMPTS = 20

_RETENTION_LOCK = 0x4F46_5254
"""The advisory lock of who drops what is past its retention."""


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A table that is partitioned by month on `timestamp` and, when it has `periods`, by period inside each month.

    `indexes` are the statements that a period's part needs beyond what it has from the table; `{name}` is the part's.
    """

    name: str
    periods: tuple[str, ...] = ()
    indexes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def parts(self, month: Month) -> list[str]:
        """Return the names of the partition of `month` and of its parts."""
        name = month.partition(self.name)
        return [name, *(f"{name}_{period}" for period in self.periods)]

    def leaves(self, names: Iterable[str]) -> list[Part]:
        """Return, of the partitions `names`, those that we made and that hold rows themselves, oldest month first."""
        found = (Part.parse(self.name, name) for name in names)
        periods = self.periods or (None,)
        return sorted((part for part in found if part is not None and part.period in periods), key=attrgetter("month"))

    def months(self, names: Iterable[str]) -> list[Month]:
        """Return, of the partitions `names`, the months that have one, whatever parts it has."""
        found = (Part.parse(self.name, name) for name in names)
        return sorted(part.month for part in found if part is not None and part.period is None)


class MissingPartitionError(Exception):
    """A month's partition lacks the part of a period, so a row of that period has no place."""


@dataclass(frozen=True, slots=True)
class Created:
    """A partition that was made, and how many rows were moved into it from the default partition."""

    name: str
    moved: int


async def existing(connection: Connection, table: str) -> set[str]:
    """Return the names of the partitions of `table`, and of their parts."""
    rows = await connection.fetch(
        """
        SELECT relid::regclass::text AS name FROM pg_partition_tree($1::text::regclass)
        WHERE level > 0
        """,
        table,
    )
    return {row["name"] for row in rows}


@dataclass(frozen=True, slots=True)
class Extent:
    """A partition without parts of its own: its rows as last estimated (null: never), and its size with indexes."""

    name: str
    estimated_rows: int | None
    size_bytes: int


async def extents(connection: Connection, table: str) -> list[Extent]:
    """Return the extent of each partition of `table` that holds rows itself, by name."""
    rows = await connection.fetch(
        """
        SELECT relid::regclass::text AS name, nullif(reltuples, -1)::bigint AS estimated_rows,
            coalesce(pg_total_relation_size(relid), 0) AS size_bytes
        FROM pg_partition_tree($1::text::regclass) JOIN pg_class ON pg_class.oid = relid
        WHERE isleaf AND relkind = 'r' ORDER BY 1
        """,
        table,
    )
    return [Extent(row["name"], row["estimated_rows"], row["size_bytes"]) for row in rows]


async def stray_months(connection: Connection, table: str) -> list[Month]:
    """Return the months of the rows that lie in the default partition, oldest first."""
    rows = await connection.fetch(
        f"SELECT DISTINCT date_trunc('month', timestamp, 'UTC') AS month FROM {table}_default ORDER BY 1"
    )
    return [Month.of(row["month"]) for row in rows]


async def ensure(database: Database, table: PartitionedTable, months: Sequence[Month]) -> list[Created]:
    """Make the partitions of `table` for `months` that are missing, moving their rows out of the default partition.

    Each is made in a transaction of its own that waits only a moment for its locks and tries again, so that inserts
    never stall behind it.
    """
    async with database.connection() as connection:
        present = await existing(connection, table.name)
    created = []
    for month in months:
        name, *parts = table.parts(month)
        if name not in present:
            created.append(await _create(database, table, name, month))
            continue
        for period, part in zip(table.periods, parts, strict=True):
            if part not in present:
                created.append(await _create_part(database, table, name, period))
    return created


async def _create(database: Database, table: PartitionedTable, name: str, month: Month) -> Created:
    async def create(connection: Connection) -> Created:
        # Nothing may arrive in the default partition between the move and the attachment.
        await connection.execute(f"LOCK TABLE {table.name}_default IN ACCESS EXCLUSIVE MODE")
        if name in await existing(connection, table.name):
            return Created(name, 0)
        by_period = " PARTITION BY LIST (period)" if table.periods else ""
        await connection.execute(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL){by_period}")
        for period in table.periods:
            await _add_part(connection, table, name, period)
        tag = await connection.execute(
            f"""
            WITH moved AS (
                DELETE FROM {table.name}_default WHERE timestamp >= $1 AND timestamp < $2 RETURNING *
            )
            INSERT INTO {name} SELECT * FROM moved
            """,
            month.start,
            month.end,
        )
        await connection.execute(
            f"ALTER TABLE {table.name} ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{_literal(month.start)}') TO ('{_literal(month.end)}')"
        )
        return Created(name, int(tag.rpartition(" ")[2]))

    return await with_brief_locks(database, create)


async def _create_part(database: Database, table: PartitionedTable, name: str, period: str) -> Created:
    async def create(connection: Connection) -> Created:
        if f"{name}_{period}" not in await existing(connection, table.name):
            await _add_part(connection, table, name, period)
        return Created(f"{name}_{period}", 0)

    return await with_brief_locks(database, create)


async def _add_part(connection: Connection, table: PartitionedTable, name: str, period: str) -> None:
    part = f"{name}_{period}"
    await connection.execute(f"CREATE TABLE {part} PARTITION OF {name} FOR VALUES IN ('{period}')")
    for statement in table.indexes.get(period, ()):
        await connection.execute(statement.format(name=part))


async def drop(database: Database, name: str, check: Callable[[Connection], Awaitable[bool]]) -> bool:
    """Drop a part unless `check` says False, which is asked while nobody can write to it; say whether it is gone.

    The check may take long: readers go on meanwhile, and so does everybody who writes elsewhere. Only the drop itself
    stands in their way, and it waits only a moment for its locks and tries again.

    Raises:
        PartitionBusyError: when others held their locks through all tries.
    """
    async with database.transaction() as connection:
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")

        async def execute(statement: str) -> None:
            async with connection.transaction():
                await connection.execute(statement)

        await _trying(lambda: execute(f"LOCK TABLE {name} IN SHARE MODE"))
        if not await check(connection):
            return False
        await _trying(lambda: execute(f"DROP TABLE {name}"))
        return True


async def drop_hollow(database: Database, name: str) -> bool:
    """Drop a month's partition that has no part any more; say whether it is gone."""

    async def action(connection: Connection) -> bool:
        await connection.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        if await existing(connection, name):
            return False
        await connection.execute(f"DROP TABLE {name}")
        return True

    return await with_brief_locks(database, action)


@asynccontextmanager
async def alone(database: Database) -> AsyncIterator[bool]:
    """Lend the right to drop what is past its retention as long as the block; False when another process has it."""
    connection = await database.listen()
    try:
        yield bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", _RETENTION_LOCK))
    finally:
        connection.terminate()


async def months_to_roll_up(connection: Connection) -> set[Month]:
    """Return the months with rows that some roll-up does not know yet: their parts are still needed."""
    rows = await connection.fetch(
        "SELECT DISTINCT date_trunc('month', bucket, 'UTC') AS month FROM metrics_rollups_due"
    )
    return {Month.of(row["month"]) for row in rows}


async def with_brief_locks(database: Database, action: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Run `action` in a transaction that waits only a moment for locks, again while somebody else holds them.

    Raises:
        PartitionBusyError: when they were held through all tries.
    """

    async def attempt() -> Result:
        async with database.transaction() as connection:
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            return await action(connection)

    return await _trying(attempt)


async def _trying(attempt: Callable[[], Awaitable[Result]]) -> Result:
    for number in range(1, ATTEMPTS + 1):
        try:
            return await attempt()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if number == ATTEMPTS:
                raise PartitionBusyError(
                    "the tables are in use by long transactions; it is tried again later"
                ) from error
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError("the last attempt raises")


def _literal(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
