"""Partitions that somebody drops by hand come back, and nothing of what was collected is lost meanwhile."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import pytest
import structlog
from tests.integration.metrics.conftest import Collecting

from opsfleet.domain.health import HealthCheck, HealthStatus
from opsfleet.domain.metrics import minute_of
from opsfleet.domain.partitions import Month
from opsfleet.services.maintenance import PARTITIONED, MaintenanceService
from opsfleet.simulate.behaviour import Behaviour, MetricsReport
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.store import partitions, targets
from opsfleet.store.health_checks import CheckToWrite

MINUTE = timedelta(minutes=1)

Collect: TypeAlias = Callable[[datetime], Awaitable[None]]


def errors(logs: list[Any]) -> list[str]:
    return [line["event"] for line in logs if line["log_level"] == "error"]


async def drop(collecting: Collecting, name: str) -> None:
    await collecting.fetch(f"DROP TABLE {name}")


@pytest.fixture
async def server(collecting: Collecting, agents: SimulatedFleet) -> UUID:
    """A server that receives ten bytes a minute."""
    return await collecting.add("web-1", agents.url(0))


@pytest.fixture
def collect(collecting: Collecting, agents: SimulatedFleet) -> Collect:
    """Collects from the server in a minute, and waits until that is stored."""

    async def one_cycle(minute: datetime) -> None:
        agents.set_behaviour(0, Behaviour(metrics=MetricsReport(network_rx_bytes=10 * int(minute.timestamp() // 60))))
        await collecting.cycle(minute)

    return one_cycle


async def test_a_month_dropped_by_hand_is_reported_and_made_again(
    collecting: Collecting, server: UUID, collect: Collect
) -> None:
    start = minute_of(datetime.now(UTC))
    month = Month.of(start).partition("server_metrics_aggregated")
    await collect(start)
    await drop(collecting, month)
    with structlog.testing.capture_logs() as logs:
        await collect(start + MINUTE)
    assert errors(logs) == [f"PARTITION MISSING: {month} does not exist!"]
    assert await collecting.maintenance.missing_partitions() == ([], False)
    assert [row["network_rx_bytes"] for row in await collecting.rows(server)] == [10]
    with structlog.testing.capture_logs() as logs:
        await collect(start + 2 * MINUTE)
    assert errors(logs) == []


async def test_rows_that_fell_into_the_default_partition_are_moved_and_alerted_on(
    collecting: Collecting, server: UUID, collect: Collect
) -> None:
    start = minute_of(datetime.now(UTC))
    month = Month.of(start).partition("server_metrics_aggregated")
    await collect(start)
    dropped = [False]
    check = collecting.worker._check_partitions

    async def drop_after_the_check() -> None:
        await check()
        if not dropped[0]:
            dropped[0] = True
            await drop(collecting, month)

    collecting.worker._check_partitions = drop_after_the_check
    await collect(start + MINUTE)
    (waiting,) = await collecting.fetch("SELECT * FROM server_metrics_aggregated_default")
    assert waiting["network_rx_bytes"] == 10
    with structlog.testing.capture_logs() as logs:
        await collect(start + 2 * MINUTE)
    assert errors(logs) == [f"PARTITION MISSING: {month} does not exist!"]
    assert f"Partition {month} was missing: 1 rows were moved into it" in [
        line["event"] for line in logs if line["log_level"] == "warning"
    ]
    assert await collecting.fetch("SELECT FROM server_metrics_aggregated_default") == []
    assert [row["network_rx_bytes"] for row in await collecting.rows(server)] == [10, 10]


@pytest.mark.parametrize("times", [1, 2])
async def test_the_part_of_the_minutes_dropped_by_hand_comes_back_and_the_batch_with_it(
    collecting: Collecting, server: UUID, collect: Collect, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    start = minute_of(datetime.now(UTC))
    part = Month.of(start).partition("server_metrics_aggregated") + "_1m"
    await collect(start)
    write, left = collecting.metrics._write, [times]

    async def drop_and_write(*given: Any, **more: Any) -> Any:
        if left[0]:
            left[0] -= 1
            await drop(collecting, part)
        return await write(*given, **more)

    monkeypatch.setattr(collecting.metrics, "_write", drop_and_write)
    with structlog.testing.capture_logs() as logs:
        await collect(start + MINUTE)
    assert errors(logs).count(f"PARTITION MISSING: {part} does not exist!") == times
    assert [row["network_rx_bytes"] for row in await collecting.rows(server)] == [10]
    stats = collecting.worker.get_stats()
    assert (stats["collections_failed"], stats["results_dropped"]) == (0, 0)


async def test_minutes_that_waited_until_their_part_was_dropped_are_stored_all_the_same(
    collecting: Collecting, server: UUID, collect: Collect
) -> None:
    before = Month(2026, 2)
    await partitions.ensure(collecting.database, PARTITIONED[1], [before])
    await drop(collecting, "server_metrics_aggregated_2026_02_1m")
    await collect(before.end - MINUTE)
    await collect(before.end)
    assert [row["timestamp"] for row in await collecting.rows(server)] == [before.end - MINUTE, before.end]


async def test_the_partition_of_health_checks_dropped_by_hand_comes_back_too(
    collecting: Collecting, server: UUID
) -> None:
    name = Month.of(datetime.now(UTC)).partition("server_health_checks")
    await drop(collecting, name)
    async with collecting.database.connection() as connection:
        (target,) = await targets.select(connection, [server])
    check = HealthCheck(server, datetime.now(UTC), HealthStatus.HEALTHY, 1.0)
    await collecting.health.record([CheckToWrite(check, target.revision, None)])
    with structlog.testing.capture_logs() as logs:
        await collecting.maintenance.repair_current_month()
    assert errors(logs) == [f"PARTITION MISSING: {name} does not exist!"]
    (stored,) = await collecting.fetch(f"SELECT server_id FROM {name}")
    assert stored["server_id"] == server


@pytest.mark.parametrize(
    ("end", "months"),
    [
        (datetime(2028, 3, 1, tzinfo=UTC), ("2028_02", "2028_03")),
        (datetime(2028, 1, 1, tzinfo=UTC), ("2027_12", "2028_01")),
    ],
)
async def test_the_last_minute_of_a_month_and_the_first_of_the_next_lie_in_their_months(
    collecting: Collecting, server: UUID, collect: Collect, end: datetime, months: tuple[str, str]
) -> None:
    last = end - MINUTE
    await collecting.maintenance.ensure_partitions(last)
    for minute in (last, end):
        await collect(minute)
    rows = await collecting.fetch(
        "SELECT tableoid::regclass::text AS part, timestamp FROM server_metrics_aggregated ORDER BY timestamp"
    )
    assert [(row["part"], row["timestamp"]) for row in rows] == [
        (f"server_metrics_aggregated_{month}_1m", minute) for month, minute in zip(months, (last, end), strict=True)
    ]
    made = await MaintenanceService(collecting.database).ensure_partitions(end)
    third = Month.of(end).next().next()
    assert third.partition("server_metrics_aggregated") in made, "a new month makes the one after the next"


async def test_making_a_month_waits_for_a_writer_only_in_short_tries(collecting: Collecting) -> None:
    async with collecting.database.connection() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(
            "INSERT INTO server_metrics_aggregated (timestamp, server_id, period, sample_count) "
            "VALUES (now(), gen_random_uuid(), '1m', 1)"
        )
        made = await collecting.maintenance.ensure_partitions(datetime(2031, 1, 1, tzinfo=UTC))
        await transaction.commit()
    assert "server_metrics_aggregated_2031_03" in made, "a writer of a month that is there is in nobody's way"


def relations(plan: dict[str, Any]) -> set[str]:
    found = {plan["Relation Name"]} if "Relation Name" in plan else set()
    return found.union(*(relations(inner) for inner in plan.get("Plans", [])))


@pytest.mark.parametrize("table", ["server_metrics_aggregated", "fleet_metrics", "server_health_checks"])
async def test_a_query_of_one_month_touches_only_that_months_partitions(collecting: Collecting, table: str) -> None:
    month = Month.of(datetime.now(UTC)).next()
    period = "AND period = '5m'" if table != "server_health_checks" else ""
    async with collecting.database.connection() as connection:
        raw = await connection.fetchval(
            f"EXPLAIN (FORMAT JSON) SELECT * FROM {table} WHERE timestamp >= '{month.start}' "
            f"AND timestamp < '{month.end}' {period}"
        )
    expected = month.partition(table) + ("_5m" if period else "")
    assert relations(json.loads(raw)[0]["Plan"]) == {expected}
