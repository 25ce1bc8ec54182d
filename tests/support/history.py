"""Old history, made in the database at once instead of collected for months."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pyarrow import parquet

from opsfleet.domain.partitions import Month
from opsfleet.domain.retention import Retention
from opsfleet.services.maintenance import PARTITIONED
from opsfleet.store import partitions
from opsfleet.store.database import Database

RETENTION = Retention(90, {"1m": 30, "5m": 180, "15m": 180, "1h": 1_095, "1d": 1_095})
PERIODS = ("1m", "5m", "15m", "1h", "1d")

METRICS = """
INSERT INTO server_metrics_aggregated (timestamp, server_id, period, cpu_percent, network_rx_bytes, network_tx_bytes,
    llm_requests, llm_cost_usd, active_users, sample_count)
SELECT $1::timestamptz + number * interval '1 second', gen_random_uuid(), $2, 0.1::real * number,
    CASE WHEN number % 7 > 0 THEN 9007199254740993 + number END, number, number % 3,
    CASE WHEN number % 5 > 0 THEN 0.000001 * number END, -number, 1
FROM generate_series(1, $3) AS number
"""

HEALTH = """
INSERT INTO server_health_checks (server_id, timestamp, status, response_time_ms, error_message, error_details)
SELECT gen_random_uuid(), $1::timestamptz + number * interval '1 microsecond', 'critical', 0.5, $2, $3
FROM generate_series(1, $4) AS number
"""


async def make_month(database: Database, month: Month) -> None:
    """Make the partitions of a month for all tables."""
    for table in PARTITIONED:
        await partitions.ensure(database, table, [month])


async def add_metrics(database: Database, start: datetime, period: str = "1m", rows: int = 100) -> None:
    """Add rows of metrics, one each second from `start` on, some of their values null."""
    async with database.connection() as connection:
        await connection.execute(METRICS, start, period, rows)


async def add_health(
    database: Database, start: datetime, rows: int = 100, message: str | None = None, details: Any = None
) -> None:
    """Add health checks, one each microsecond from `start` on."""
    async with database.connection() as connection:
        await connection.execute(HEALTH, start, message, details, rows)


async def names(database: Database, table: str = "server_metrics_aggregated") -> set[str]:
    """Return the names of a table's partitions but the default one, without those of this month and later."""
    async with database.connection() as connection:
        found = await partitions.existing(connection, table)
    today = Month.of(datetime.now().astimezone()).partition(table)
    return {name.removeprefix(f"{table}_") for name in found if name < today}


async def fetch(database: Database, query: str, *values: Any) -> list[Any]:
    """Return the rows of a query."""
    async with database.connection() as connection:
        return list(await connection.fetch(query, *values))


async def sums(database: Database, archive: Path | None = None) -> tuple[Any, ...]:
    """Return rows, bytes, requests and costs of the minutes in the table and in the archive together."""
    (row,) = await fetch(
        database,
        """
        SELECT count(*) AS rows, count(DISTINCT server_id) AS servers, coalesce(sum(network_rx_bytes), 0) AS bytes,
            coalesce(sum(llm_requests), 0) AS requests, coalesce(sum(llm_cost_usd), 0) AS costs
        FROM server_metrics_aggregated WHERE period = '1m'
        """,
    )
    found = [row["rows"], row["servers"], int(row["bytes"]), int(row["requests"]), Decimal(row["costs"])]
    for archived in _archived_minutes(archive) if archive else ():
        found[0] += len(archived)
        found[1] += len({row["server_id"] for row in archived})
        for position, name in enumerate(("network_rx_bytes", "llm_requests", "llm_cost_usd"), 2):
            found[position] += sum(row[name] for row in archived if row[name] is not None)
    return tuple(found)


def _archived_minutes(archive: Path) -> list[list[dict[str, Any]]]:
    files = archive.glob("server_metrics_aggregated/*_1m*.parquet")
    return [parquet.read_table(file).to_pylist() for file in files]
