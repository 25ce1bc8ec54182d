"""What a part of a partitioned table holds: counted exactly, and read as a stream."""

import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from opsfleet.store.database import Connection, Database
from opsfleet.store.partitions import with_brief_locks

LONG_SECONDS = 6 * 3600.0
"""How long one statement over a whole part may take."""

_COMMENT = re.compile(r"archived as ([0-9a-f-]{36})")

SUMMED = frozenset({"smallint", "integer", "bigint", "numeric"})


@dataclass(frozen=True, slots=True)
class Totals:
    """What two copies of the same rows must agree on; sums are of whole numbers and decimals, 0 when all are null."""

    rows: int
    nulls: dict[str, int]
    sums: dict[str, Decimal]
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True)
class Contents:
    """A part as one snapshot shows it.

    `columns` are names and PostgreSQL's names of types. `identity` is what `identify` gave; `mark` changes with every
    row that is written, changed or removed.
    """

    name: str
    identity: UUID
    columns: dict[str, str]
    totals: Totals
    mark: tuple[int, int]


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[Connection]:
    """Lend a connection that sees one moment of the database as long as the block."""
    async with (
        database.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


async def identify(database: Database, name: str) -> UUID:
    """Return the identity of a part, which no other has: not an earlier one of the same name, nor of a database before.

    It is the table's comment, so that it is still there in a dump that was restored elsewhere.
    """

    async def action(connection: Connection) -> UUID:
        comment = await connection.fetchval("SELECT obj_description($1::text::regclass, 'pg_class')", name)
        found = _COMMENT.fullmatch(comment or "")
        if found:
            return UUID(found[1])
        identity = uuid4()
        await connection.execute(f"COMMENT ON TABLE {name} IS 'archived as {identity}'")
        return identity

    return await with_brief_locks(database, action)


async def read(connection: Connection, name: str, identity: UUID) -> Contents:
    """Read all rows of a part and return what they come to."""
    rows = await connection.fetch(
        """
        SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute
        WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
        """,
        name,
    )
    columns = {row["attname"]: row["type"] for row in rows}
    summed = [column for column, kind in columns.items() if kind in SUMMED]
    wanted = [
        "count(*)",
        "min(timestamp)",
        "max(timestamp)",
        *(f"count(*) - count({column})" for column in columns),
        *(f"coalesce(sum({column}::numeric), 0)" for column in summed),
    ]
    found: Any = await connection.fetchrow(f"SELECT {', '.join(wanted)} FROM {name}", timeout=LONG_SECONDS)
    values = list(found.values())
    nulls = values[3 : 3 + len(columns)]
    totals = Totals(
        rows=values[0],
        nulls=dict(zip(columns, nulls, strict=True)),
        sums=dict(zip(summed, values[3 + len(columns) :], strict=True)),
        first=values[1],
        last=values[2],
    )
    return Contents(name, identity, columns, totals, await mark(connection, name))


async def mark(connection: Connection, name: str) -> tuple[int, int]:
    """Return what changes with every row that is written, changed or removed.

    It is the number of rows and the sum of the transactions that wrote them, which freezing leaves as they are.
    """
    row: Any = await connection.fetchrow(
        f"SELECT count(*), coalesce(sum(xmin::text::bigint), 0)::bigint FROM {name}", timeout=LONG_SECONDS
    )
    return row[0], row[1]


async def stream(
    connection: Connection, contents: Contents, sink: Callable[[bytes], Coroutine[Any, Any, None]]
) -> None:
    """Hand all rows to `sink` as CSV with a line of names; a null is empty, an empty text is quoted."""
    await connection.copy_from_query(
        f"SELECT {', '.join(contents.columns)} FROM {contents.name}",
        output=sink,
        format="csv",
        header=True,
        timeout=LONG_SECONDS,
    )
