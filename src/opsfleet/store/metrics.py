"""Metrics collections: writing what the worker collected.

As with health checks there is a short way and a careful way. Nearly all collections follow the one that the writer
remembers, in a later minute, so the short way is one UPDATE of the last raw values that names what it expects, and one
COPY. When the UPDATE touches fewer rows than expected, the careful way locks, reads and computes anew.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from opsfleet.domain.metrics import (
    NO_COUNTERS,
    Counters,
    Gauges,
    Increases,
    LastCollection,
    MetricsCollection,
    Period,
    Reading,
    busy_percent,
    carried_on,
    increases,
)
from opsfleet.store.database import Connection
from opsfleet.store.partitions import MissingPartitionError, PartitionedTable

TABLE = "server_metrics_aggregated"

HOUR_OF_ROW = "date_bin('1 hour', timestamp, timestamptz '2000-01-01 00:00:00+00')"
"""What minutes are indexed by besides the server: sixty rows share one entry, which takes a sixth of the room."""

_PERIODS = tuple(period.value for period in Period)
_BY_SERVER = "CREATE UNIQUE INDEX ON {name} (server_id, timestamp)"

# The roll-ups read and replace the rows of a bucket, of all servers. A BRIN is not enough here: what was written since
# the last vacuum is not in it, and would be read whole each time when many buckets are rolled up one after another.
_BY_TIME = "CREATE INDEX ON {name} (timestamp)"

# Nothing but the last raw values' row keeps a minute from being there twice: a unique index would double its size.
_MINUTE_INDEXES = (
    f"CREATE INDEX ON {{name}} (server_id, ({HOUR_OF_ROW}))",
    # New pages must be summarized soon: until then each query reads them.
    "CREATE INDEX ON {name} USING brin (timestamp) WITH (autosummarize = on)",
)

SERVER_METRICS = PartitionedTable(
    TABLE,
    _PERIODS,
    {
        Period.MINUTE.value: _MINUTE_INDEXES,
        **{period.value: (_BY_SERVER, _BY_TIME) for period in Period if period is not Period.MINUTE},
    },
)
FLEET_METRICS = PartitionedTable("fleet_metrics", _PERIODS)

_COLUMNS = (
    "timestamp",
    "network_rx_bytes",
    "network_tx_bytes",
    "llm_requests",
    "server_id",
    "cpu_percent",
    "memory_percent",
    "disk_percent",
    "active_users",
    "total_users",
    "active_services",
    "failed_services",
    "total_services",
    "sample_count",
    "period",
    "llm_cost_usd",
)


class CollectionToWrite:
    """A collection, the `revision` of the server it was made of, and the collection before, as the writer has it.

    Without `known` the writer remembers nothing, and what is stored is read.
    """

    __slots__ = ("collection", "known", "revision")

    def __init__(self, collection: MetricsCollection, revision: int, known: LastCollection | None) -> None:
        self.collection = collection
        self.revision = revision
        self.known = known

    @property
    def is_steady(self) -> bool:
        """Whether the collection simply follows the one that is remembered."""
        known, collection = self.known, self.collection
        return (
            known is not None
            and collection.reading is not None
            and known.minute is not None
            and collection.minute > known.minute
            and collection.error == known.error
        )


class Written:
    """What became of a batch.

    `last` is what is remembered now of each server written, `stored` the number of collections whose row was stored,
    `values` the number of their values. A `stale` collection is of a server as it no longer is and left no trace.
    """

    __slots__ = ("last", "stale", "stored", "values")

    def __init__(self) -> None:
        self.last: dict[UUID, LastCollection] = {}
        self.stale: set[UUID] = set()
        self.stored = 0
        self.values = 0


async def is_written(connection: Connection, batch_id: UUID) -> bool:
    """Say whether the batch of that id is the one that was written last."""
    return bool(await connection.fetchval("SELECT last_batch = $1 FROM metrics_writer", batch_id))


async def write(connection: Connection, batch: Sequence[CollectionToWrite], *, batch_id: UUID | None = None) -> Written:
    """Write a batch of collections inside the caller's transaction.

    For each collection: its row of the minute, with counters as increases, and the raw values to compare the next with.
    Several collections of a server in one minute make one row. `batch_id` is remembered, so that `is_written` can tell
    whether a batch of unknown fate was stored.

    Raises:
        MissingPartitionError: when somebody dropped a part of a month; the transaction is to be rolled back.
    """
    written = Written()
    steady: list[CollectionToWrite] = []
    unsteady: list[CollectionToWrite] = []
    for item in batch:
        (steady if item.is_steady else unsteady).append(item)
    others: Sequence[CollectionToWrite] = unsteady
    rows: list[tuple[Any, ...]] = []
    if steady and not await _follow(connection, steady, rows, written):
        others = batch
    while others:  # the careful way takes each server once at a time
        turn: dict[UUID, CollectionToWrite] = {}
        rest: list[CollectionToWrite] = []
        for item in others:
            if item.collection.server_id in turn:
                rest.append(item)
            else:
                turn[item.collection.server_id] = item
        await _follow_carefully(connection, turn, rows, written)
        others = rest
    if rows:
        try:
            await connection.copy_records_to_table(TABLE, columns=_COLUMNS, records=rows)
        except asyncpg.CheckViolationError as error:
            raise MissingPartitionError(error.message) from None
    minutes = {row[0] for row in rows} | {item.collection.minute for item in batch if item.collection.reading}
    await note_due(connection, minutes)
    if batch_id is not None:
        await connection.execute("UPDATE metrics_writer SET last_batch = $1", batch_id)
    return written


async def note_due(connection: Connection, minutes: set[datetime]) -> None:
    """Note that rows of these minutes are not rolled up yet.

    The notes stay locked until the caller's transaction ends, so a roll-up that takes one has seen all its rows.
    """
    due = sorted(
        {(Period.MINUTE.value, minute) for minute in minutes}
        | {(Period.FIVE_MINUTES.value, Period.FIVE_MINUTES.start_of(minute)) for minute in minutes}
    )
    if due:
        await connection.execute(
            """
            INSERT INTO metrics_rollups_due (period, bucket)
            SELECT * FROM unnest($1::text[], $2::timestamptz[]) ORDER BY 1, 2
            ON CONFLICT (period, bucket) DO UPDATE SET noted_at = clock_timestamp()
            """,
            [period for period, _ in due],
            [bucket for _, bucket in due],
        )


async def _follow(
    connection: Connection, batch: Sequence[CollectionToWrite], rows: list[tuple[Any, ...]], written: Written
) -> bool:
    """Note collections that follow what is remembered; False, with nothing done, when one does not."""
    by_minute: dict[datetime, list[tuple[CollectionToWrite, Counters]]] = {}
    new_rows: list[tuple[Any, ...]] = []
    last: dict[UUID, LastCollection] = {}
    values = 0
    for item in batch:
        collection, known = item.collection, item.known
        reading = collection.reading
        assert known is not None
        assert reading is not None
        counters = carried_on(known.counters, reading.counters)
        by_minute.setdefault(collection.minute, []).append((item, counters))
        new_rows.append(_row(collection, _gauges(known.counters, reading), increases(known.counters, reading.counters)))
        last[collection.server_id] = LastCollection(collection.at, collection.minute, counters, collection.error)
        values += reading.value_count
    savepoint = connection.transaction()
    await savepoint.start()
    for minute, items in by_minute.items():
        # Moments travel as microseconds: the driver takes four times as long over a timestamp.
        tag = await connection.execute(
            """
            UPDATE server_last_collections AS last
            SET collected_at = 'epoch'::timestamptz + result.at * interval '1 microsecond',
                minute = $11,
                network_rx_bytes = result.rx, network_tx_bytes = result.tx,
                llm_requests = result.requests, llm_cost_microusd = result.cost,
                cpu_idle_seconds = result.idle, cpu_total_seconds = result.total
            FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                $8::bigint[], $9::double precision[], $10::double precision[])
                AS result (id, revision, known, at, rx, tx, requests, cost, idle, total)
            JOIN managed_servers AS server ON server.id = result.id AND server.status = 'active'
                AND server.updated_at = 'epoch'::timestamptz + result.revision * interval '1 microsecond'
            WHERE last.server_id = result.id AND last.minute < $11
                AND last.collected_at = 'epoch'::timestamptz + result.known * interval '1 microsecond'
            """,
            [item.collection.server_id for item, _ in items],
            [item.revision for item, _ in items],
            [_microseconds(item.known.collected_at) for item, _ in items if item.known is not None],
            [_microseconds(item.collection.at) for item, _ in items],
            *zip(*(counters for _, counters in items), strict=True),
            minute,
        )
        if int(tag.rpartition(" ")[2]) != len(items):
            await savepoint.rollback()
            return False
    await savepoint.commit()
    rows.extend(new_rows)
    written.last.update(last)
    written.stored += len(new_rows)
    written.values += values
    return True


async def _follow_carefully(
    connection: Connection,
    batch: dict[UUID, CollectionToWrite],
    rows: list[tuple[Any, ...]],
    written: Written,
) -> None:
    """Lock what is remembered of the servers that are still as they were, and go on from it."""
    known = await _lock_last(connection, batch)
    written.stale.update(server_id for server_id in batch if server_id not in known)
    for server_id, before in known.items():
        collection = batch[server_id].collection
        reading = collection.reading
        if before.collected_at == collection.at:
            written.last[server_id] = before
            continue
        if reading is None:
            written.last[server_id] = before._replace(error=collection.error)
            continue
        overtaken = before.collected_at is not None and collection.at < before.collected_at
        if overtaken:
            # A collection that waited while a newer one was stored: the increase is in the newer one.
            row = _row(collection, _gauges(NO_COUNTERS, reading), Increases(None, None, None, None))
            after = before
        else:
            row = _row(collection, _gauges(before.counters, reading), increases(before.counters, reading.counters))
            newest = collection.minute if before.minute is None else max(before.minute, collection.minute)
            after = LastCollection(
                collection.at, newest, carried_on(before.counters, reading.counters), collection.error
            )
        is_new = before.minute is None or collection.minute > before.minute
        if is_new or not await _merge(connection, row):
            rows.append(row)
        written.last[server_id] = after
        written.stored += 1
        written.values += reading.value_count
    changed = [(server_id, written.last[server_id]) for server_id in known]
    await connection.executemany(
        """
        UPDATE server_last_collections
        SET collected_at = $2, minute = $3, error = $4, network_rx_bytes = $5, network_tx_bytes = $6, llm_requests = $7,
            llm_cost_microusd = $8, cpu_idle_seconds = $9, cpu_total_seconds = $10
        WHERE server_id = $1
        """,
        [(server_id, last.collected_at, last.minute, last.error, *last.counters) for server_id, last in changed],
    )


async def _lock_last(connection: Connection, batch: dict[UUID, CollectionToWrite]) -> dict[UUID, LastCollection]:
    """Return what is remembered of each server that is active and of the expected revision, and lock it."""
    ids = list(batch)
    await connection.execute(
        """
        INSERT INTO server_last_collections (server_id)
        SELECT server.id FROM managed_servers AS server
        JOIN unnest($1::uuid[], $2::bigint[]) AS result (id, revision)
            ON server.id = result.id
                AND server.updated_at = 'epoch'::timestamptz + result.revision * interval '1 microsecond'
        WHERE server.status = 'active'
        ORDER BY server.id
        ON CONFLICT DO NOTHING
        """,
        ids,
        [item.revision for item in batch.values()],
    )
    rows = await connection.fetch(
        """
        SELECT last.* FROM server_last_collections AS last
        JOIN unnest($1::uuid[], $2::bigint[]) AS result (id, revision) ON last.server_id = result.id
        JOIN managed_servers AS server ON server.id = result.id AND server.status = 'active'
            AND server.updated_at = 'epoch'::timestamptz + result.revision * interval '1 microsecond'
        ORDER BY last.server_id
        FOR UPDATE OF last
        """,
        ids,
        [item.revision for item in batch.values()],
    )
    return {row["server_id"]: _last(row) for row in rows}


async def _merge(connection: Connection, row: tuple[Any, ...]) -> bool:
    """Add a collection to the row that its minute has already; False when there is none.

    Increases add up, percentages are averaged over the samples, services and users are the latest.
    """
    values = dict(zip(_COLUMNS, row, strict=True))
    percentages = ", ".join(
        f"""
        {name} = CASE WHEN {name} IS NULL THEN ${number}::real WHEN ${number}::real IS NULL THEN {name}
            ELSE ({name} * sample_count + ${number}::real) / (sample_count + 1) END,
        {name}_max = greatest({name}_max, {name}, ${number}::real)
        """
        for number, name in enumerate(("cpu_percent", "memory_percent", "disk_percent"), 3)
    )
    sums = ", ".join(
        f"{name} = coalesce({name} + ${number}::{kind}, {name}, ${number}::{kind})"
        for number, (name, kind) in enumerate(
            {
                "network_rx_bytes": "bigint",
                "network_tx_bytes": "bigint",
                "llm_requests": "bigint",
                "llm_cost_usd": "numeric",
            }.items(),
            6,
        )
    )
    latest = ", ".join(
        f"{name} = coalesce(${number}, {name})"
        for number, name in enumerate(
            ("active_services", "failed_services", "total_services", "active_users", "total_users"), 10
        )
    )
    tag = await connection.execute(
        f"""
        UPDATE {TABLE} SET {percentages}, {sums}, {latest}, sample_count = sample_count + 1
        WHERE period = '1m' AND server_id = $1 AND timestamp = $2
            AND {HOUR_OF_ROW} = date_bin('1 hour', $2, timestamptz '2000-01-01 00:00:00+00')
        """,
        values["server_id"],
        values["timestamp"],
        *(values[name] for name in ("cpu_percent", "memory_percent", "disk_percent")),
        *(values[name] for name in ("network_rx_bytes", "network_tx_bytes", "llm_requests", "llm_cost_usd")),
        *(
            values[name]
            for name in ("active_services", "failed_services", "total_services", "active_users", "total_users")
        ),
    )
    return bool(tag != "UPDATE 0")


async def forget_counters(connection: Connection, organization_id: UUID, server_id: UUID) -> None:
    """Forget the raw values of a server, so that the next ones are compared with nothing.

    A writer that remembers them notices, because the collection that it remembers is no longer there.
    """
    await connection.execute(
        """
        UPDATE server_last_collections
        SET collected_at = NULL, network_rx_bytes = NULL, network_tx_bytes = NULL, llm_requests = NULL,
            llm_cost_microusd = NULL, cpu_idle_seconds = NULL, cpu_total_seconds = NULL
        WHERE server_id = (SELECT id FROM managed_servers WHERE organization_id = $1 AND id = $2)
        """,
        organization_id,
        server_id,
    )


async def last_of(connection: Connection, organization_id: UUID, server_id: UUID) -> LastCollection | None:
    """Return what is remembered of the last collection of one server of the organization."""
    row = await connection.fetchrow(
        """
        SELECT * FROM server_last_collections
        WHERE server_id = (SELECT id FROM managed_servers WHERE organization_id = $1 AND id = $2)
        """,
        organization_id,
        server_id,
    )
    return _last(row) if row else None


def _last(row: Any) -> LastCollection:
    counters = Counters(
        row["network_rx_bytes"],
        row["network_tx_bytes"],
        row["llm_requests"],
        row["llm_cost_microusd"],
        row["cpu_idle_seconds"],
        row["cpu_total_seconds"],
    )
    return LastCollection(row["collected_at"], row["minute"], counters, row["error"])


def _gauges(before: Counters, reading: Reading) -> Gauges:
    """Return the gauges of a reading, with the CPU's share worked out for servers that report its times."""
    if reading.counters.cpu_total_seconds is None:
        return reading.gauges
    return reading.gauges._replace(cpu_percent=busy_percent(before, reading.counters))


def _row(collection: MetricsCollection, gauges: Gauges, grown: Increases) -> tuple[Any, ...]:
    cost = grown.llm_cost_microusd
    return (
        collection.minute,
        grown.network_rx_bytes,
        grown.network_tx_bytes,
        grown.llm_requests,
        collection.server_id,
        gauges.cpu_percent,
        gauges.memory_percent,
        gauges.disk_percent,
        gauges.active_users,
        gauges.total_users,
        gauges.active_services,
        gauges.failed_services,
        gauges.total_services,
        1,
        "1m",
        None if cost is None else Decimal(cost).scaleb(-6),
    )


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1e6)
