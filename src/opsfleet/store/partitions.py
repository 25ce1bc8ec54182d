"""Partitions by month and, inside a month, by period: finding, making, and emptying the default one."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import asyncpg

from opsfleet.domain.partitions import Month
from opsfleet.store.database import Connection, Database

Result = TypeVar("Result")

LOCK_TIMEOUT = "500ms"
"""How long inserts may stall behind a partition that is being attached or dropped."""

ATTEMPTS = 20


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


async def with_brief_locks(database: Database, action: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Run `action` in a transaction that waits only a moment for locks, again while somebody else holds them."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with database.transaction() as connection:
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                return await action(connection)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt raises")


def _literal(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
