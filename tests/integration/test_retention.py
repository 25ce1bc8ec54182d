"""History goes when it is older than its retention: by dropping, each period on its own day, in nobody's way."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.partitions import Month
from opsfleet.services.retention import RetentionService
from opsfleet.store import partitions
from opsfleet.store.database import Database
from tests.support.history import PERIODS, RETENTION, add_health, add_metrics, fetch, make_month, names
from tests.support.product import running_product

JANUARY = Month(2026, 1)
DUE_1M = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture
async def retention(database: Database) -> RetentionService:
    """The retention of a database that has January."""
    await make_month(database, JANUARY)
    for period in PERIODS:
        await add_metrics(database, JANUARY.start, period)
    return RetentionService(database, RETENTION)


async def test_each_period_of_a_month_is_dropped_on_its_own_day_and_the_month_with_its_last(
    database: Database, retention: RetentionService
) -> None:
    assert (await retention.enforce(DUE_1M - timedelta(seconds=1))).dropped == []
    first = await retention.enforce(DUE_1M)
    assert first.dropped == ["server_metrics_aggregated_2026_01_1m", "fleet_metrics_2026_01_1m"]
    rows = await fetch(database, "SELECT period, count(*) AS rows FROM server_metrics_aggregated GROUP BY period")
    assert {row["period"]: row["rows"] for row in rows} == dict.fromkeys(PERIODS[1:], 100)
    second = await retention.enforce(datetime(2026, 8, 1, tzinfo=UTC))
    assert "server_health_checks_2026_01" in second.dropped
    assert await names(database) == {"2026_01", "2026_01_1h", "2026_01_1d"}
    await retention.enforce(datetime(2029, 2, 1, tzinfo=UTC))
    assert await names(database) == set()
    assert await names(database, "fleet_metrics") == set()


async def test_what_is_not_rolled_up_yet_stays_until_it_is(database: Database, retention: RetentionService) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO metrics_rollups_due (period, bucket) VALUES ('5m', $1)", JANUARY.start + timedelta(hours=3)
        )
    with structlog.testing.capture_logs() as logs:
        kept = await retention.enforce(DUE_1M)
    assert kept.dropped == []
    assert kept.put_off == ["server_metrics_aggregated_2026_01_1m", "fleet_metrics_2026_01_1m"]
    assert "Partition server_metrics_aggregated_2026_01_1m is kept: it is not rolled up yet" in [
        line["event"] for line in logs
    ]
    async with database.connection() as connection:
        await connection.execute("DELETE FROM metrics_rollups_due")
    assert (await retention.enforce(DUE_1M)).dropped == kept.put_off


async def test_minutes_are_dropped_while_a_writer_of_another_month_holds_its_transaction_open(
    database: Database, retention: RetentionService
) -> None:
    async with database.connection() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(
            "INSERT INTO server_metrics_aggregated (timestamp, server_id, period, sample_count) "
            "VALUES (now(), gen_random_uuid(), '1m', 1)"
        )
        assert "server_metrics_aggregated_2026_01_1m" in (await retention.enforce(DUE_1M)).dropped
        await transaction.commit()


async def test_dropping_a_month_waits_for_a_writer_only_in_short_tries(
    database: Database, retention: RetentionService
) -> None:
    await add_health(database, JANUARY.start)
    async with database.connection() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(
            "INSERT INTO server_health_checks (server_id, timestamp, status) VALUES (gen_random_uuid(), now(), 'x')"
        )
        dropping = asyncio.create_task(retention.enforce(datetime(2026, 5, 2, tzinfo=UTC)))
        for _ in range(3):
            # While the drop queues for its lock, others can write between its tries.
            await add_health(database, datetime.now(UTC), rows=1)
        assert not dropping.done()
        await transaction.commit()
    assert "server_health_checks_2026_01" in (await dropping).dropped


async def test_a_part_that_stays_in_use_is_put_off_and_goes_the_next_time(
    database: Database, retention: RetentionService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "ATTEMPTS", 2)
    async with database.transaction() as reader:
        await reader.fetch("SELECT * FROM server_metrics_aggregated_2026_01_1m LIMIT 1")
        enforced = await retention.enforce(DUE_1M)
        assert enforced.put_off == ["server_metrics_aggregated_2026_01_1m"]
        assert enforced.dropped == ["fleet_metrics_2026_01_1m"]
    assert (await retention.enforce(DUE_1M)).dropped == enforced.put_off


async def test_one_process_drops_at_a_time(database: Database, retention: RetentionService) -> None:
    async with partitions.alone(database) as alone:
        assert alone
        assert (await retention.enforce(DUE_1M)).dropped == []
    several = await asyncio.gather(*(RetentionService(database, RETENTION).enforce(DUE_1M) for _ in range(3)))
    assert sorted(name for enforced in several for name in enforced.dropped) == [
        "fleet_metrics_2026_01_1m",
        "server_metrics_aggregated_2026_01_1m",
    ]


async def test_old_transitions_and_gaps_go_but_what_held_at_the_limit_is_still_known(
    database: Database, retention: RetentionService
) -> None:
    now = datetime(2026, 6, 30, tzinfo=UTC)
    limit = now - timedelta(days=90)
    async with database.connection() as connection:
        await connection.execute(
            """
            INSERT INTO health_transitions (server_id, organization_id, to_status, at)
            SELECT gen_random_uuid(), $1, 'healthy', '2026-01-01' FROM generate_series(1, 3)
            """,
            DEFAULT_ORGANIZATION,
        )
        for days, status in ((-9, "healthy"), (-5, "critical"), (-1, "degraded"), (3, "healthy")):
            await connection.execute(
                """
                INSERT INTO health_transitions (server_id, organization_id, to_status, at)
                SELECT DISTINCT ON (server_id) server_id, organization_id, $1, $2 FROM health_transitions
                ORDER BY server_id LIMIT 1
                """,
                status,
                limit + timedelta(days=days),
            )
        await connection.executemany(
            "INSERT INTO unmonitored_periods VALUES (gen_random_uuid(), $1, $2)",
            [
                (limit - timedelta(days=3), limit - timedelta(days=2)),
                (limit - timedelta(days=3), limit + timedelta(days=2)),
            ],
        )
    await retention.enforce(now)
    left = await fetch(database, "SELECT server_id, to_status FROM health_transitions ORDER BY server_id, at")
    assert [row["to_status"] for row in left] == ["degraded", "healthy", "healthy", "healthy"]
    assert len({row["server_id"] for row in left}) == 3, "a server that never changed again keeps its last transition"
    (gap,) = await fetch(database, "SELECT ended_at FROM unmonitored_periods")
    assert gap["ended_at"] == limit + timedelta(days=2)


async def test_partitions_made_by_others_are_left_alone(database: Database, retention: RetentionService) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "CREATE TABLE server_health_checks_2019 PARTITION OF server_health_checks "
            "FOR VALUES FROM ('2019-01-01') TO ('2020-01-01')"
        )
    await retention.enforce(datetime(2040, 1, 1, tzinfo=UTC))
    assert await names(database, "server_health_checks") == {"2019"}


async def test_the_control_plane_drops_when_it_starts(dsn: str, database: Database) -> None:
    await make_month(database, JANUARY)
    kept = {f"retention_metrics_{period}_days": 36_500 for period in PERIODS[1:]}
    async with running_product(dsn, retention_health_days=1, **kept), asyncio.timeout(20):
        while "2026_01_1m" in await names(database) or await names(database, "server_health_checks"):
            await asyncio.sleep(0.02)
    assert await names(database) == {"2026_01", "2026_01_5m", "2026_01_15m", "2026_01_1h", "2026_01_1d"}
