"""Rolling up the metrics of many servers, and the room that their minutes take."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import machine
from opsfleet.domain.metrics import Period
from opsfleet.domain.partitions import Month
from opsfleet.domain.rollups import GRACE
from opsfleet.embedded import EmbeddedPostgres
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.rollups import RollupService
from opsfleet.store import partitions
from opsfleet.store.database import Connection, Database
from opsfleet.store.metrics import FLEET_METRICS, SERVER_METRICS, TABLE
from opsfleet.store.migrate import migrate

START = datetime(2026, 3, 14, tzinfo=UTC)
LATER = START + timedelta(days=2)
"""When everything of the day is due."""

_SERVERS = """
INSERT INTO managed_servers (id, organization_id, name, hostname, api_url, api_token_hash, api_token_ciphertext, region,
    environment)
SELECT gen_random_uuid(), organizations.id, 'server-' || n, 'host', 'https://host', '', '', 'region-' || n % 5,
    'environment-' || n % 3
FROM organizations, generate_series(1, $1) AS n
"""

# The mix of the simulated fleet: a third of the servers has users, half of them know language models.
_MIXED = ("hashtext(id::text) % 3 = 0", "hashtext(id::text) % 2 = 0")
_ALL = ("true", "true")


class History:
    """A database with servers, and what fills it."""

    def __init__(self, database: Database, pid: int) -> None:
        self.database = database
        self.maintenance = MaintenanceService(database)
        self.pid = pid

    async def fill(self, period: Period, start: datetime, count: int, mix: tuple[str, str] = _MIXED) -> None:
        """Write `count` rows of a period for every server, from `start` on."""
        has_users, has_models = mix
        maximum = "NULL::real" if period is Period.MINUTE else "80 + 20 * random()"
        async with self.database.connection() as connection:
            await connection.execute(
                f"""
                INSERT INTO {TABLE} (period, timestamp, server_id, sample_count, cpu_percent, memory_percent,
                    disk_percent, cpu_percent_max, memory_percent_max, disk_percent_max, network_rx_bytes,
                    network_tx_bytes, active_services, failed_services, total_services, llm_requests, llm_cost_usd,
                    active_users, total_users)
                SELECT $1, at, id, $2, 80 * random(), 80 * random(), 80 * random(), {maximum}, {maximum}, {maximum},
                    (1e8 * random())::bigint, (1e8 * random())::bigint, 12, 0, 12,
                    CASE WHEN {has_models} THEN (100 * random())::bigint END,
                    CASE WHEN {has_models} THEN (1e6 * random())::bigint / 1e6::numeric END,
                    CASE WHEN {has_users} THEN (400 * random())::integer END, CASE WHEN {has_users} THEN 400 END
                FROM generate_series($3::timestamptz, $4, $5::interval) AS at, managed_servers
                """,
                period.value,
                period.length // Period.MINUTE.length,
                start,
                start + (count - 1) * period.length,
                period.length,
            )
            await connection.execute(f"VACUUM ANALYZE {TABLE}")

    async def note(self, period: Period, start: datetime, count: int) -> None:
        """Note `count` buckets of a period as due."""
        async with self.database.connection() as connection:
            await connection.execute(
                "INSERT INTO metrics_rollups_due (period, bucket, noted_at) "
                "SELECT $1, $2::timestamptz + number * $4::interval, $2 FROM generate_series(0, $3 - 1) AS number",
                period.value,
                start,
                count,
                period.length,
            )

    async def roll_up(self, now: datetime = LATER) -> tuple[int, machine.Window]:
        """Roll up all that is due at `now`; return how many buckets it were, and what that took of time."""
        window = machine.Window((self.pid,))
        buckets = await RollupService(self.database, self.maintenance).roll_up(now)
        window.close()
        return buckets, window

    async def bytes_per_row(self) -> tuple[int, int]:
        """Return the bytes of a row of minutes, without and with its indexes."""
        async with self.database.connection() as connection:
            part = f"{Month.of(START).partition(TABLE)}_1m"
            return await _sizes(connection, part)


async def _sizes(connection: Connection, part: str) -> tuple[int, int]:
    row = await connection.fetchrow(
        f"SELECT pg_table_size($1::regclass), pg_indexes_size($1::regclass), (SELECT count(*) FROM {part})", part
    )
    assert row is not None
    table, indexes, rows = row
    return round(table / rows), round((table + indexes) / rows)


@asynccontextmanager
async def history(servers: int) -> AsyncIterator[History]:
    """Lend a database with so many servers, as the product runs it."""
    with tempfile.TemporaryDirectory(prefix="opsfleet-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        postgres = EmbeddedPostgres(Path(folder) / "data")
        await asyncio.to_thread(postgres.start)
        database = Database(postgres.dsn, command_timeout=600)
        try:
            await migrate(database)
            for table in (SERVER_METRICS, FLEET_METRICS):
                await partitions.ensure(database, table, [Month.of(START)])
            async with database.connection() as connection:
                await connection.execute(_SERVERS, servers)
            assert postgres.pid is not None
            yield History(database, postgres.pid)
        finally:
            await database.close()
            await asyncio.to_thread(postgres.stop)


async def minute(servers: int) -> dict[str, Any]:
    """The fleet's minute, its five minutes, and the quarter that follows at once; median and slowest of 12."""
    async with history(servers) as found:
        await found.fill(Period.MINUTE, START, 60)
        seconds, cpu = [], 0.0
        for number in range(12):
            bucket = START + number * Period.FIVE_MINUTES.length
            await found.note(Period.MINUTE, bucket, 1)
            await found.note(Period.FIVE_MINUTES, bucket, 1)
            _, window = await found.roll_up(bucket + Period.FIVE_MINUTES.length + GRACE)
            seconds.append(window.wall)
            cpu += window.cpu
        seconds.sort()
        return {
            "servers": servers,
            "buckets": "1m, 5m, 15m",
            "seconds_median": round(seconds[6], 3),
            "seconds_max": round(seconds[-1], 3),
            "cpu_seconds": round(cpu / 12, 3),
        }


async def day(servers: int, hours: int) -> dict[str, Any]:
    """A day's (or fewer hours') rows of five minutes, rolled up into quarters, hours and the day."""
    async with history(servers) as found:
        await found.fill(Period.FIVE_MINUTES, START, hours * 12)
        await found.note(Period.QUARTER, START, hours * 4)
        buckets, window = await found.roll_up()
        # The hours and the day alone, once more: the quarters between them and the five minutes are there already.
        await found.note(Period.HOUR, START, hours)
        _, coarse = await found.roll_up()
        return {
            "servers": servers,
            "hours": hours,
            "buckets": buckets,
            "seconds": round(window.wall, 2),
            "cpu_seconds": round(window.cpu, 2),
            "seconds_hours_and_day": round(coarse.wall, 2),
        }


async def room(servers: int, minutes: int) -> dict[str, Any]:
    """What a row of minutes takes, as servers with all values have it and as the simulated fleet has it."""
    figures: dict[str, Any] = {"servers": servers, "minutes": minutes}
    for name, mix in (("all_12_values", _ALL), ("simulated_mix", _MIXED)):
        async with history(servers) as found:
            await found.fill(Period.MINUTE, START, minutes, mix)
            row, total = await found.bytes_per_row()
            figures[f"bytes_{name}"] = row
            figures[f"bytes_{name}_with_indexes"] = total
    return figures
