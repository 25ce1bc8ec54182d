"""Uptime from what was recorded: outages, and the time in which nobody looked."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from opsfleet.domain.health import HealthCheck, HealthStatus
from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.domain.uptime import gap_after
from opsfleet.polling import PollingEngine
from opsfleet.services.health import HealthService
from opsfleet.services.health_cycle import HealthCycle
from opsfleet.services.targets import TargetSource
from opsfleet.store import targets
from opsfleet.store.health_checks import CheckToWrite
from opsfleet.workers.health import FleetHealthWorker, stop_health_worker
from opsfleet.workers.polling import Pacing
from tests.support.product import Product, running_product

SERVERS = "/api/v1/fleet/servers"
HOUR = timedelta(hours=1)
GAP = gap_after(30)


async def execute(product: Product, query: str, *values: Any) -> None:
    async with product.fleet.database.connection() as connection:
        await connection.execute(query, *values)


async def gaps(product: Product) -> list[tuple[datetime, datetime]]:
    async with product.fleet.database.connection() as connection:
        rows = await connection.fetch("SELECT started_at, ended_at FROM unmonitored_periods ORDER BY started_at")
    return [(row["started_at"], row["ended_at"]) for row in rows]


async def checked_at(product: Product, server: str) -> datetime:
    async with product.fleet.database.connection() as connection:
        found = await connection.fetchval(
            "SELECT last_health_check_at FROM managed_servers WHERE id = $1", UUID(server)
        )
    assert isinstance(found, datetime)
    return found


async def uptime(product: Product, server: str, start: datetime, end: datetime) -> Any:
    query = f"start={quote(start.isoformat())}&end={quote(end.isoformat())}"
    return (await product.get(f"{SERVERS}/{server}/health-history?{query}"))["uptime"]


async def test_the_history_says_how_long_a_server_was_up(product: Product, agents: Any) -> None:
    server = (await product.register("web-1", agents.url(0)))["id"]
    start = datetime.now(UTC).replace(microsecond=0) - 10 * HOUR
    await execute(product, "DELETE FROM health_transitions")
    for hours, health in ((1, "healthy"), (4, "unreachable"), (5, "degraded")):
        await execute(
            product,
            "INSERT INTO health_transitions (server_id, organization_id, to_status, at) VALUES ($1, $2, $3, $4)",
            UUID(server),
            DEFAULT_ORGANIZATION,
            health,
            start + hours * HOUR,
        )
    await execute(
        product,
        "INSERT INTO unmonitored_periods (server_id, started_at, ended_at) VALUES ($1, $2, $3), ($4, $2, $3)",
        UUID(server),
        start + 6 * HOUR,
        start + 8 * HOUR,
        new_id(),
    )
    assert await uptime(product, server, start, start + 9 * HOUR) == {
        "start": start.isoformat().replace("+00:00", "Z"),
        "end": (start + 9 * HOUR).isoformat().replace("+00:00", "Z"),
        "uptime_percent": round(100 * 5 / 6, 4),
        "seconds": {
            "healthy": 10_800.0,
            "degraded": 7_200.0,
            "critical": 0.0,
            "unreachable": 3_600.0,
            "unmonitored": 10_800.0,
        },
    }
    inside = await uptime(product, server, start + timedelta(hours=4.5), start + timedelta(hours=5.5))
    assert (inside["uptime_percent"], inside["seconds"]["unreachable"]) == (50.0, 1_800.0)


async def test_what_is_yet_to_come_does_not_count(product: Product, agents: Any) -> None:
    server = (await product.register("web-1", agents.url(0)))["id"]
    now = datetime.now(UTC)
    found = await uptime(product, server, now - HOUR, now + 24 * HOUR)
    assert datetime.fromisoformat(found["end"]) < now + HOUR
    assert sum(found["seconds"].values()) < 2 * 3_600
    assert found["uptime_percent"] == 100.0
    later = await uptime(product, server, now + HOUR, now + 2 * HOUR)
    assert (sum(later["seconds"].values()), later["uptime_percent"]) == (0, None)


async def test_time_since_the_last_check_is_not_monitored_once_it_is_too_long_ago(dsn: str, agents: Any) -> None:
    async with running_product(dsn, health_interval=60) as product:
        server = (await product.register("web-1", agents.url(0)))["id"]
        now = datetime.now(UTC)
        await execute(product, "UPDATE health_transitions SET at = $1", now - 5 * HOUR)
        for age, seconds in ((timedelta(minutes=2), 0), (2 * HOUR, 7_200)):
            # Removed from polling, so that no cycle comes between.
            await execute(
                product,
                "UPDATE managed_servers SET status = 'inactive', last_health_check_at = $1",
                now - age,
            )
            found = await uptime(product, server, now - 4 * HOUR, now)
            assert found["seconds"]["unmonitored"] == pytest.approx(seconds, abs=0.01)
            assert found["uptime_percent"] == 100.0


async def test_a_check_after_a_long_pause_records_the_pause(dsn: str, agents: Any) -> None:
    async with running_product(dsn, health_interval=3_600) as product:
        server = (await product.register("web-1", agents.url(0)))["id"]
        await product.call("POST", f"{SERVERS}/{server}/health-check")
        assert await gaps(product) == []
        last = datetime.now(UTC) - 4 * HOUR
        await execute(product, "UPDATE managed_servers SET last_health_check_at = $1", last)
        status, _ = await product.call("POST", f"{SERVERS}/{server}/health-check")
        assert status == 200
        assert await gaps(product) == [(last, await checked_at(product, server))]


async def test_a_control_plane_that_did_not_run_leaves_a_gap(
    product: Product, engine: PollingEngine, agents: Any
) -> None:
    servers = [(await product.register(f"s-{number}", agents.url(number)))["id"] for number in range(3)]
    last = datetime.now(UTC) - 2 * HOUR
    await execute(product, "UPDATE managed_servers SET last_health_check_at = $1", last)
    source = TargetSource(product.fleet.database, product.fleet.vault)
    pacing = Pacing(interval=30.0, batch_size=10, batch_delay=0.0, buffer_capacity=1_000)
    worker = FleetHealthWorker(source, engine, pacing, service=product.fleet.health)
    await worker.initialize()
    await worker._guarded_cycle(datetime.now(UTC))
    await worker._buffer.settled()
    recorded = await gaps(product)
    assert [start for start, _ in recorded] == [last] * 3
    assert sorted(end for _, end in recorded) == sorted([await checked_at(product, server) for server in servers])
    await worker._guarded_cycle(datetime.now(UTC))
    await worker._buffer.settled()
    assert await gaps(product) == recorded, "the cycles that follow leave no gaps"
    await stop_health_worker(worker)


async def test_a_server_that_was_put_aside_was_not_monitored_meanwhile(
    product: Product, engine: PollingEngine, agents: Any
) -> None:
    server = (await product.register("web-1", agents.url(0)))["id"]
    await product.call("PATCH", f"{SERVERS}/{server}", {"status": "inactive"})
    last = datetime.now(UTC) - HOUR
    await execute(product, "UPDATE managed_servers SET last_health_check_at = $1", last)
    await execute(product, "UPDATE health_transitions SET at = $1", last - HOUR)
    await product.call("PATCH", f"{SERVERS}/{server}", {"status": "active"})
    source = TargetSource(product.fleet.database, product.fleet.vault)
    (polled,), _ = await source.current()
    items: list[CheckToWrite] = []
    cycle = HealthCycle([polled], items.append, GAP)
    engine.submit(polled.target, "/health", cycle.take)
    await cycle.done.wait()
    await product.fleet.health.record(items)
    ((start, end),) = await gaps(product)
    assert (start, end) == (last, await checked_at(product, server))
    found = await uptime(product, server, last - timedelta(minutes=30), end)
    assert found["seconds"]["unmonitored"] == pytest.approx(3_600, abs=60)
    assert (found["seconds"]["healthy"], found["uptime_percent"]) == (1_800.0, 100.0)


async def test_a_writer_that_is_wrong_about_a_gap_records_none(product: Product, agents: Any) -> None:
    """Another process checked the server meanwhile: this one's memory of the last check is old."""
    server = UUID((await product.register("web-1", agents.url(0)))["id"])
    async with product.fleet.database.connection() as connection:
        (row,) = await targets.select(connection, [server])
    check = HealthCheck(server, datetime.now(UTC), HealthStatus.HEALTHY, 1.0)
    fleet = product.fleet
    service = HealthService(fleet.database, fleet.engine, fleet.vault)
    await service.record([CheckToWrite(check, row.revision, HealthStatus.HEALTHY, row.version, gap_after=GAP)])
    assert await gaps(product) == []
    assert await checked_at(product, str(server)) == check.timestamp


async def test_a_batch_of_unknown_fate_records_a_gap_once(product: Product, agents: Any) -> None:
    server = UUID((await product.register("web-1", agents.url(0)))["id"])
    last = datetime.now(UTC) - HOUR
    await execute(product, "UPDATE managed_servers SET last_health_check_at = $1", last)
    async with product.fleet.database.connection() as connection:
        (row,) = await targets.select(connection, [server])
    check = HealthCheck(server, datetime.now(UTC), HealthStatus.HEALTHY, 1.0)
    item = CheckToWrite(check, row.revision, HealthStatus.HEALTHY, row.version, gap_after=GAP)
    await product.fleet.health.record([item])
    await product.fleet.health.record([item], repeated=True)
    assert await gaps(product) == [(last, check.timestamp)]
