"""Queries of metrics on generated history, over HTTP, one after the other: p50 and p99."""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks import processes
from opsfleet.domain.metrics import Period, minute_of
from opsfleet.domain.partitions import Month
from opsfleet.embedded import EmbeddedPostgres
from opsfleet.services.maintenance import PARTITIONED, MaintenanceService
from opsfleet.store import partitions
from opsfleet.store.database import Database
from opsfleet.store.migrate import migrate

REGIONS, ENVIRONMENTS, TAGS = 4, 3, 20
DAY = timedelta(days=1)

_VALUES = "random() * 100, random() * 100, 50, (random() * 1e9)::bigint, 5e8::bigint, 12, 0, 12, 3, 0.01, 7, 40, 60"
_COLUMNS = (
    "cpu_percent, cpu_percent_max, memory_percent, network_rx_bytes, network_tx_bytes, active_services, "
    "failed_services, total_services, llm_requests, llm_cost_usd, active_users, total_users, sample_count"
)


async def queries(servers: int, days: int, requests: int) -> dict[str, Any]:
    """One server over all days, the fleet over a day (whole, by region, by tag), and the summary, in ms."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="opsfleet-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        data = Path(folder) / "data"
        async with _database(data) as database:
            ids = await _fill(database, servers, days, now)
            size = await _size(database)
            async with processes.product(data_dir=str(data), role="api") as product:
                chance = random.Random(1)
                since = quote((now - days * DAY).isoformat())
                one = f"/api/v1/fleet/servers/{{}}/metrics?start={since}"
                fleet = "/api/v1/fleet/metrics/aggregated"
                paths: dict[str, Callable[[], str]] = {
                    f"one_server_{days}d": lambda: one.format(chance.choice(ids)),
                    "fleet_24h": lambda: fleet,
                    "fleet_24h_by_region": lambda: f"{fleet}?group_by=region",
                    "summary": lambda: "/api/v1/fleet/summary",
                }
                found: dict[str, Any] = {"servers": servers, "days": days, "database_mb": size}
                for name, path in paths.items():
                    found |= await _measure(product, name, path, requests)
                found |= await _measure(
                    product, "fleet_24h_by_tag", lambda: f"{fleet}?group_by=tag", max(3, requests // 20)
                )
                return found


@asynccontextmanager
async def _database(data: Path) -> AsyncIterator[Database]:
    embedded = EmbeddedPostgres(data)
    await asyncio.to_thread(embedded.start)
    database = Database(embedded.dsn, command_timeout=600)
    try:
        await migrate(database)
        yield database
    finally:
        await database.close()
        await asyncio.to_thread(embedded.stop)


async def _fill(database: Database, servers: int, days: int, now: datetime) -> Sequence[Any]:
    """Make servers and their hours, and the roll-up of the fleet as far as the queries read it; return the ids."""
    await MaintenanceService(database).ensure_partitions()
    first = Period.DAY.start_of(now - days * DAY)
    months = {Month.of(first + day * DAY) for day in range(days + 1)}
    for table in PARTITIONED:
        await partitions.ensure(database, table, sorted(months))
    async with database.connection() as connection:
        await connection.execute(
            f"""
            INSERT INTO managed_servers (id, organization_id, name, hostname, api_url, api_token_hash,
                api_token_ciphertext, health_status, region, environment, tags)
            SELECT gen_random_uuid(), organizations.id, 's-' || n, 'h', 'https://h', repeat('x', 32)::bytea,
                repeat('x', 64)::bytea, 'healthy', 'region-' || n % {REGIONS}, 'env-' || n % {ENVIRONMENTS},
                jsonb_build_array('tag-' || n % {TAGS})
            FROM organizations, generate_series(1, $1::int) AS n
            """,
            servers,
        )
        for day in range(days + 1):
            # As the roll-up writes them: bucket after bucket, all servers of each.
            await connection.execute(
                f"""
                INSERT INTO server_metrics_aggregated (server_id, period, timestamp, {_COLUMNS})
                SELECT id, '1h', timestamp, {_VALUES}
                FROM managed_servers,
                    generate_series($1::timestamptz, $1::timestamptz + interval '23 hours', '1 hour') AS timestamp
                WHERE timestamp <= $2 ORDER BY timestamp
                """,
                first + day * DAY,
                now,
            )
        for period, start in (
            (Period.MINUTE, minute_of(now) - timedelta(minutes=5)),
            (Period.FIVE_MINUTES, Period.FIVE_MINUTES.start_of(now) - DAY),
            (Period.QUARTER, Period.QUARTER.start_of(now) - DAY),
        ):
            # The newest minutes reach into the future, so that the summary finds a fresh one however long this takes.
            await connection.execute(
                """
                INSERT INTO fleet_metrics (organization_id, period, timestamp, region, environment, servers,
                    sample_count, cpu_percent_sum, cpu_percent_count, memory_percent_count, disk_percent_count,
                    llm_requests, llm_cost_usd, active_users, total_users)
                SELECT organization_id, $1, timestamp, region, environment, count(*), 5 * count(*), 30 * count(*),
                    count(*), 0, 0, 4 * count(*), 0.01 * count(*), 7 * count(*), 40 * count(*)
                FROM managed_servers, generate_series($2::timestamptz, $3::timestamptz, $4::interval) AS timestamp
                GROUP BY organization_id, timestamp, region, environment ORDER BY timestamp
                """,
                period.value,
                start,
                now + timedelta(minutes=30),
                period.length,
            )
        await connection.execute("VACUUM ANALYZE")
        return [row["id"] for row in await connection.fetch("SELECT id FROM managed_servers")]


async def _size(database: Database) -> int:
    async with database.connection() as connection:
        return round(await connection.fetchval("SELECT pg_database_size(current_database())") / 1e6)


async def _measure(product: processes.Product, name: str, path: Callable[[], str], requests: int) -> dict[str, Any]:
    for _ in range(min(10, requests)):
        await product.call("GET", path())
    times = []
    for _ in range(requests):
        start = time.perf_counter()
        await product.call("GET", path())
        times.append(1_000 * (time.perf_counter() - start))
    times.sort()
    return {
        f"{name}_ms_p50": round(times[len(times) // 2], 1),
        f"{name}_ms_p99": round(times[min(len(times) - 1, int(len(times) * 0.99))], 1),
    }
