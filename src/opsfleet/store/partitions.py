"""Monthly partitions: finding, making, and emptying the default one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

from opsfleet.domain.partitions import Month
from opsfleet.store.database import Connection, Database

LOCK_TIMEOUT = "500ms"
"""How long inserts may stall behind a partition that is being attached."""

ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Created:
    """A partition that was made, and how many rows were moved into it from the default partition."""

    name: str
    moved: int


async def existing(connection: Connection, table: str) -> set[str]:
    """Return the names of the partitions of `table`."""
    rows = await connection.fetch(
        """
        SELECT child.relname FROM pg_inherits
        JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhparent = $1::text::regclass
        """,
        table,
    )
    return {row["relname"] for row in rows}


async def stray_months(connection: Connection, table: str) -> list[Month]:
    """Return the months of the rows that lie in the default partition, oldest first."""
    rows = await connection.fetch(
        f"SELECT DISTINCT date_trunc('month', timestamp, 'UTC') AS month FROM {table}_default ORDER BY 1"
    )
    return [Month.of(row["month"]) for row in rows]


async def ensure(database: Database, table: str, months: Sequence[Month]) -> list[Created]:
    """Make the partitions of `table` for `months` that are missing, moving their rows out of the default partition.

    Each is made in a transaction of its own that waits only a moment for its locks and tries again, so that inserts
    never stall behind it.
    """
    async with database.connection() as connection:
        present = await existing(connection, table)
    created = []
    for month in months:
        name = month.partition(table)
        if name not in present:
            created.append(await _create(database, table, name, month))
    return created


async def _create(database: Database, table: str, name: str, month: Month) -> Created:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with _brief(database) as connection:
                # Nothing may arrive in the default partition between the move and the attachment.
                await connection.execute(f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE")
                if name in await existing(connection, table):
                    return Created(name, 0)
                await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
                tag = await connection.execute(
                    f"""
                    WITH moved AS (
                        DELETE FROM {table}_default WHERE timestamp >= $1 AND timestamp < $2 RETURNING *
                    )
                    INSERT INTO {name} SELECT * FROM moved
                    """,
                    month.start,
                    month.end,
                )
                await connection.execute(
                    f"ALTER TABLE {table} ATTACH PARTITION {name} "
                    f"FOR VALUES FROM ('{_literal(month.start)}') TO ('{_literal(month.end)}')"
                )
                return Created(name, int(tag.rpartition(" ")[2]))
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


@asynccontextmanager
async def _brief(database: Database) -> AsyncIterator[Connection]:
    async with database.transaction() as connection:
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        yield connection


def _literal(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
