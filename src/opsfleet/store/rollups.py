"""Roll-ups of metrics: the notes of what is due, and the two statements that roll up a bucket.

A bucket is always computed anew as a whole, of all servers, from the rows of the finer period. So it does not matter
whether it was rolled up before, or how often. What was made of more samples than there are now stays as it is: rows
only ever become more, unless retention or somebody by hand has taken finer ones away.
"""

from datetime import datetime

import asyncpg

from opsfleet.domain.metrics import Period
from opsfleet.domain.partitions import Month
from opsfleet.domain.rollups import Note
from opsfleet.store import partitions
from opsfleet.store.database import Connection
from opsfleet.store.metrics import FLEET_METRICS, SERVER_METRICS, TABLE
from opsfleet.store.partitions import MissingPartitionError, PartitionedTable

_PERCENTAGES = ("cpu_percent", "memory_percent", "disk_percent")
_INCREASES = ("network_rx_bytes", "network_tx_bytes", "llm_requests")
_LATEST = {
    "active_services": "smallint",
    "failed_services": "smallint",
    "total_services": "smallint",
    "active_users": "integer",
    "total_users": "integer",
}

_AVERAGES = ", ".join(
    f"sum({name}::float8 * sample_count) / sum(sample_count) FILTER (WHERE {name} IS NOT NULL)" for name in _PERCENTAGES
)
_MAXIMA = ", ".join(f"max(coalesce({name}_max, {name}))" for name in _PERCENTAGES)

# What a server that counts nonsense adds up to must not be more than there is room for: its roll-up would never end.
_SUMS = ", ".join(f"CASE WHEN sum({name}) > {2**63 - 1} THEN {2**63 - 1} ELSE sum({name}) END" for name in _INCREASES)

# The last value in time that is not null, without sorting: the greatest of numbers whose upper half is the minute
# within the bucket and whose lower half is the value.
_LAST_VALUES = ", ".join(
    f"(max(minute << 32 | {name}::bigint) & {2**32 - 1})::{kind}" for name, kind in _LATEST.items()
)

_OUTDATED = f"""
DELETE FROM {TABLE} AS coarser USING (
    SELECT server_id, sum(sample_count) AS samples FROM {TABLE}
    WHERE period = $3 AND timestamp >= $2 AND timestamp < $4
    GROUP BY server_id
) AS finer
WHERE coarser.period = $1 AND coarser.timestamp = $2 AND coarser.server_id = finer.server_id
    AND finer.samples >= coarser.sample_count
"""

# The rows are in the order of the index that they go into, which takes a tenth less time.
_SERVERS = f"""
INSERT INTO {TABLE} (
    period, timestamp, server_id, sample_count, {", ".join(_PERCENTAGES)},
    {", ".join(f"{name}_max" for name in _PERCENTAGES)}, {", ".join(_INCREASES)}, llm_cost_usd, {", ".join(_LATEST)}
)
SELECT $1, $2, server_id, least(sum(sample_count), 32767), {_AVERAGES}, {_MAXIMA}, {_SUMS}, sum(llm_cost_usd),
    {_LAST_VALUES}
FROM (
    SELECT *, (date_part('epoch', timestamp - $2::timestamptz) / 60)::bigint AS minute FROM {TABLE}
    WHERE period = $3 AND timestamp >= $2 AND timestamp < $4
        AND server_id NOT IN (SELECT kept.server_id FROM {TABLE} AS kept WHERE kept.period = $1 AND kept.timestamp = $2)
    OFFSET 0
) AS finer
GROUP BY server_id
ORDER BY server_id
"""

_FLEET_INCREASES = (*_INCREASES, "llm_cost_usd")
_FLEET_GAUGES = (
    "servers",
    "sample_count",
    *(f"{name}_{what}" for name in _PERCENTAGES for what in ("sum", "count", "max")),
    *_LATEST,
)

_SERVERS_NOW = f"""
SELECT server.organization_id, coalesce(server.region, '') AS region, coalesce(server.environment, '') AS environment,
    count(*) AS servers, sum(sample_count) AS sample_count,
    {
    ", ".join(
        f"sum({name}::float8) AS {name}_sum, count({name}) AS {name}_count, "
        f"max(coalesce({name}_max, {name})) AS {name}_max"
        for name in _PERCENTAGES
    )
},
    {", ".join(f"sum({name}) AS {name}" for name in (*_LATEST, *_FLEET_INCREASES))}
FROM {TABLE} AS metrics
JOIN managed_servers AS server ON server.id = metrics.server_id
WHERE period = $1 AND timestamp = $2
GROUP BY server.organization_id, coalesce(server.region, ''), coalesce(server.environment, '')
"""


def _fleet(source: str) -> str:
    """Return the statement that stores sums of the fleet.

    What was spent stays spent where it was, whatever becomes of the server: increases never become less.
    """
    updates = [f"{name} = excluded.{name}" for name in _FLEET_GAUGES]
    updates += [f"{name} = greatest(fleet.{name}, excluded.{name})" for name in _FLEET_INCREASES]
    columns = ", ".join(("organization_id", "region", "environment", *_FLEET_GAUGES, *_FLEET_INCREASES))
    return f"""
INSERT INTO fleet_metrics AS fleet (period, timestamp, {columns})
SELECT $1, $2, {columns} FROM ({source}) AS made
ON CONFLICT (organization_id, period, timestamp, region, environment) DO UPDATE SET {", ".join(updates)}
"""


_FLEET_MINUTE = _fleet(_SERVERS_NOW)

# Increases come from the fleet's own finer rows, which know servers that were removed or moved meanwhile.
_NOT_NULL = {"servers", "sample_count", *(f"{name}_count" for name in _PERCENTAGES)}
_FLEET_COARSER = _fleet(
    f"""
    SELECT organization_id, region, environment,
        {
        ", ".join(
            f"coalesce(now.{name}, 0) AS {name}" if name in _NOT_NULL else f"now.{name}" for name in _FLEET_GAUGES
        )
    },
        {", ".join(f"finer.{name}" for name in _FLEET_INCREASES)}
    FROM ({_SERVERS_NOW}) AS now
    FULL JOIN (
        SELECT organization_id, region, environment, {", ".join(f"sum({name}) AS {name}" for name in _FLEET_INCREASES)}
        FROM fleet_metrics WHERE period = $3 AND timestamp >= $2 AND timestamp < $4
        GROUP BY organization_id, region, environment
    ) AS finer USING (organization_id, region, environment)
    """
)

_TURN = 0x6F705F726F6C6C
"""Roll-ups wait for each other under this number: a coarser sum needs the finer one to be committed."""


async def wait_for_turn(connection: Connection) -> None:
    """Let no other roll-up run until the caller's transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _TURN)


async def note_all(connection: Connection, period: Period, start: datetime, end: datetime) -> None:
    """Note that all buckets of `period` in `[start, end)` are to be made again."""
    await connection.execute(
        """
        INSERT INTO metrics_rollups_due (period, bucket, noted_at)
        SELECT $1, bucket, $2
        FROM generate_series($2::timestamptz, $3::timestamptz - $4::interval, $4::interval) AS bucket
        ON CONFLICT (period, bucket) DO NOTHING
        """,
        period.value,
        start,
        end,
        period.length,
    )


async def notes(connection: Connection) -> list[Note]:
    """Return what is noted, due or not."""
    rows = await connection.fetch("SELECT period, bucket, noted_at FROM metrics_rollups_due")
    return [Note(Period(row["period"]), row["bucket"], row["noted_at"]) for row in rows]


async def take(connection: Connection, note: Note) -> bool:
    """Take a note away; False when somebody else did, or holds it.

    Who adds rows to the bucket holds its note until they are committed, so whoever has got it sees all the rows that
    were noted. Who adds rows later waits for the caller's transaction to end and then notes them anew.
    """
    tag: str = await connection.execute(
        """
        DELETE FROM metrics_rollups_due WHERE (period, bucket) IN (
            SELECT period, bucket FROM metrics_rollups_due WHERE period = $1 AND bucket = $2 FOR UPDATE SKIP LOCKED
        )
        """,
        note.period.value,
        note.bucket,
    )
    return tag == "DELETE 1"


async def note_coarser(connection: Connection, note: Note, now: datetime) -> Note | None:
    """Note at `now` that the bucket which `note`'s is a part of is due too; None when there is none to note.

    After a day nothing is coarser, and five minutes have their own time anyway.

    A note that is there already keeps its age, and is locked until the caller's transaction ends.
    """
    coarser = note.period.coarser
    if coarser is None:
        return None
    bucket = coarser.start_of(note.bucket)
    if note.period is Period.MINUTE:
        # Who wrote the minute has noted the five minutes, and may hold that note; only one that is gone is made again.
        await connection.execute(
            """
            INSERT INTO metrics_rollups_due (period, bucket, noted_at)
            SELECT $1::text, $2::timestamptz, $3::timestamptz
            WHERE NOT EXISTS (SELECT 1 FROM metrics_rollups_due WHERE period = $1 AND bucket = $2)
            ON CONFLICT DO NOTHING
            """,
            coarser.value,
            bucket,
            now,
        )
        return None
    noted_at: datetime = await connection.fetchval(
        """
        INSERT INTO metrics_rollups_due AS due (period, bucket, noted_at) VALUES ($1, $2, $3)
        ON CONFLICT (period, bucket) DO UPDATE SET noted_at = due.noted_at
        RETURNING noted_at
        """,
        coarser.value,
        bucket,
        now,
    )
    return Note(coarser, bucket, noted_at)


async def missing_part(connection: Connection, note: Note) -> str | None:
    """Return the name of a part that the roll-up of this bucket needs and that is gone, or None.

    Where the whole month is gone there is the default partition, which has room for every period.
    """
    periods = (note.period.finer or note.period, note.period)
    needed: list[tuple[PartitionedTable, Period]] = [(SERVER_METRICS, period) for period in periods]
    needed.append((FLEET_METRICS, note.period))
    for table, period in needed:
        month = Month.of(note.bucket).partition(table.name)
        present = await partitions.existing(connection, table.name)
        part = f"{month}_{period.value}"
        if month in present and part not in present:
            return part
    return None


async def roll_up(connection: Connection, note: Note) -> None:
    """Roll up one bucket inside the caller's transaction.

    Of minutes there are only the sums of the fleet to make, since the minutes themselves were collected.

    Raises:
        MissingPartitionError: when the part that the rows belong to is gone; the transaction is to be rolled back.
    """
    period, bucket, finer = note.period.value, note.bucket, note.period.finer
    # A plan for any parameters would look at every partition, and the states of the aggregates take more than 4 MB.
    await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
    await connection.execute("SET LOCAL work_mem = '64MB'")
    # A crash that undoes the rows undoes the taking of the note too, so nobody need wait for the disk.
    await connection.execute("SET LOCAL synchronous_commit = off")
    try:
        if finer is not None:
            await connection.execute(_OUTDATED, period, bucket, finer.value, note.end)
            await connection.execute(_SERVERS, period, bucket, finer.value, note.end)
            await connection.execute(_FLEET_COARSER, period, bucket, finer.value, note.end)
        else:
            await connection.execute(_FLEET_MINUTE, period, bucket)
    except asyncpg.CheckViolationError as error:
        raise MissingPartitionError(error.message) from None
