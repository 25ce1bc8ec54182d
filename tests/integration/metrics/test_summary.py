"""The fleet at a glance: counts, the last metrics while they are fresh, today's LLM use."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.metrics.history import add_fleet_row, add_server, execute, other_organization
from tests.support.product import TOKEN, Product

from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.metrics import Period, minute_of

PATH = "/api/v1/fleet/summary"
MINUTE = timedelta(minutes=1)
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


async def test_servers_are_counted_by_status_health_and_place(product: Product) -> None:
    database = product.fleet.database
    for name, columns in {
        "a": {"status": "active", "health_status": "healthy", "region": "eu", "environment": "prod"},
        "b": {"status": "active", "health_status": "critical", "region": "us", "environment": "prod"},
        "c": {"status": "active", "region": "eu"},
        "d": {"status": "inactive", "health_status": "healthy"},
        "e": {"status": "maintenance", "health_status": "unreachable", "region": "eu"},
    }.items():
        await add_server(database, name, **columns)
    await add_server(database, "a", await other_organization(database), status="active", region="eu")
    found = await product.get(PATH)
    assert found["servers"] == {
        "total": 5,
        "by_status": {"active": 3, "inactive": 1, "maintenance": 1},
        "by_health": {"healthy": 1, "degraded": 0, "critical": 1, "unreachable": 0, "unchecked": 1},
    }
    assert found["regions"] == [
        {"name": "eu", "servers": 3},
        {"name": "us", "servers": 1},
        {"name": None, "servers": 1},
    ]
    assert found["environments"] == [{"name": "prod", "servers": 2}, {"name": None, "servers": 3}]
    assert (found["metrics"], found["users"]) == (None, {"active": None, "total": None})
    assert "alerts" not in found


async def test_the_newest_finished_minute_speaks_while_it_is_fresh(product: Product) -> None:
    database = product.fleet.database
    other = await other_organization(database)
    now = minute_of(datetime.now(UTC))
    users = {"active_users": 4, "total_users": 10}
    await add_fleet_row(database, "1m", now - 20 * MINUTE, servers=5, cpu=99.0, **users)
    assert (await product.get(PATH))["metrics"] is None, "too old"
    await add_fleet_row(database, "1m", now - 3 * MINUTE, servers=5, cpu=98.0, **users)
    await add_fleet_row(database, "1m", now - 2 * MINUTE, region="eu", servers=3, cpu=10.0, **users)
    await add_fleet_row(database, "1m", now - 2 * MINUTE, region="us", servers=1, cpu=50.0, **users)
    await add_fleet_row(database, "1m", now - 1 * MINUTE, other, servers=9, cpu=97.0, **users)
    await add_fleet_row(database, "1m", now + 2 * MINUTE, servers=9, cpu=96.0, **users)
    found = await product.get(PATH)
    assert found["metrics"] == {
        "timestamp": (now - 2 * MINUTE).isoformat().replace("+00:00", "Z"),
        "servers": 4,
        "cpu_percent": 20.0,
        "memory_percent": None,
        "disk_percent": None,
    }
    assert found["users"] == {"active": 8, "total": 20}


async def test_llm_use_is_of_today_only(product: Product) -> None:
    database = product.fleet.database
    other = await other_organization(database)
    noon = datetime(2026, 11, 20, 12, 7, tzinfo=UTC)
    day = noon.replace(hour=0, minute=0)
    for moment, organization, requests, cost in (
        (day - timedelta(minutes=15), DEFAULT_ORGANIZATION, 1_000, 100),
        (day, DEFAULT_ORGANIZATION, 5, 0.25),
        (Period.QUARTER.start_of(noon), DEFAULT_ORGANIZATION, 2, 0.125),
        (day + timedelta(days=1), DEFAULT_ORGANIZATION, 1_000, 100),
        (day, other, 1_000, 100),
    ):
        await add_fleet_row(database, "15m", moment, organization, llm_requests=requests, llm_cost_usd=cost)
    found = await product.fleet.summary.of_organization(DEFAULT_ORGANIZATION, noon)
    assert (found.day, found.llm_requests, found.llm_cost_usd) == (day.date(), 7, pytest.approx(0.375))
    today = (await product.get(PATH))["llm_today"]
    assert set(today) == {"date", "requests", "cost_usd"}


async def test_a_client_that_has_the_answer_is_told_so(product: Product) -> None:
    await add_server(product.fleet.database, "a")

    async def ask(**headers: str) -> Any:
        sent = {**AUTHORIZED, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with product.session.get(product.url + PATH, headers=sent) as response:
            return response.status, response.headers.get("ETag"), await response.read()

    status, tag, body = await ask()
    assert (status, bool(body)) == (200, True)
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        assert await ask(if_none_match=known) == (304, tag, b"")
    assert (await ask(if_none_match='"other"'))[0] == 200
    await execute(product.fleet.database, "UPDATE managed_servers SET region = 'eu'")
    status, changed, _ = await ask(if_none_match=tag)
    assert status == 200
    assert changed != tag
    assert (await product.call("GET", PATH, headers={}))[0] == 401
