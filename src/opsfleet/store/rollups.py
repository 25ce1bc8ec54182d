"""Roll-ups of metrics: the notes of what is due, and the two statements that roll up a bucket.

A bucket is always computed anew as a whole, of all servers, from the rows of the finer period. So it does not matter
whether it was rolled up before, or how often.
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
    OFFSET 0
) AS finer
GROUP BY server_id
ORDER BY server_id
"""

_FLEET_SUMS = (*_INCREASES, "llm_cost_usd", *_LATEST)

_FLEET = f"""
INSERT INTO fleet_metrics (
    period, timestamp, organization_id, region, environment, servers, sample_count,
    {", ".join(f"{name}_sum, {name}_count, {name}_max" for name in _PERCENTAGES)}, {", ".join(_FLEET_SUMS)}
)
SELECT $1, $2, server.organization_id, coalesce(server.region, ''), coalesce(server.environment, ''),
    count(*), sum(sample_count),
    {", ".join(f"sum({name}::float8), count({name}), max(coalesce({name}_max, {name}))" for name in _PERCENTAGES)},
    {", ".join(f"sum({name})" for name in _FLEET_SUMS)}
FROM {TABLE} AS metrics
JOIN managed_servers AS server ON server.id = metrics.server_id
WHERE period = $1 AND timestamp = $2
GROUP BY server.organization_id, coalesce(server.region, ''), coalesce(server.environment, '')
"""


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

    After a day nothing is coarser, and after a minute the five minutes are noted already, by who wrote it.

    A note that is there already keeps its age, and is locked until the caller's transaction ends.
    """
    coarser = note.period.coarser
    if coarser is None or note.period is Period.MINUTE:
        return None
    bucket = coarser.start_of(note.bucket)
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
            await connection.execute(f"DELETE FROM {TABLE} WHERE period = $1 AND timestamp = $2", period, bucket)
            await connection.execute(_SERVERS, period, bucket, finer.value, note.end)
        await connection.execute("DELETE FROM fleet_metrics WHERE period = $1 AND timestamp = $2", period, bucket)
        await connection.execute(_FLEET, period, bucket)
    except asyncpg.CheckViolationError as error:
        raise MissingPartitionError(error.message) from None
