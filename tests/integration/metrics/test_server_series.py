"""One server's metrics over time: gaps stay gaps, the period fits the range, and collecting now works."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from tests.integration.metrics.history import add_row, add_server, execute, other_organization
from tests.support.product import Product

from opsfleet.domain.ids import new_id
from opsfleet.domain.metrics import Period, minute_of
from opsfleet.domain.series import COLUMNS
from opsfleet.simulate.behaviour import Behaviour, MetricsReport, Status
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.store import series
from opsfleet.store.database import Database

SERVERS = "/api/v1/fleet/servers"
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def path(server: Any, **query: Any) -> str:
    given = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in query.items()}
    return f"{SERVERS}/{server}/metrics?{urlencode(given)}"


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def test_an_hour_by_the_minute_with_a_gap(product: Product) -> None:
    database = product.fleet.database
    server = await add_server(database, "web-1")
    end = minute_of(datetime.now(UTC))
    start = end - HOUR
    for minute in (0, 1, 59):
        await add_row(
            database,
            server,
            "1m",
            start + minute * MINUTE,
            cpu_percent=12.345,
            network_rx_bytes=1_000 + minute,
            active_services=7,
            llm_cost_usd=0.000125,
        )
    await add_row(database, server, "1m", start - MINUTE, cpu_percent=99.0)
    await add_row(database, server, "1m", end, cpu_percent=99.0)
    await add_row(database, server, "5m", start, cpu_percent=99.0)
    found = await product.get(path(server, start=start, end=end))
    assert (found["server_id"], found["period"], found["start"], found["end"]) == (
        str(server),
        "1m",
        text(start),
        text(end),
    )
    assert found["timestamps"] == [text(start + minute * MINUTE) for minute in range(60)]
    columns = found["columns"]
    assert set(columns) == set(COLUMNS)
    assert {len(column) for column in columns.values()} == {60}
    assert columns["cpu_percent"] == [12.35, 12.35, *[None] * 57, 12.35]
    assert columns["cpu_percent_max"] == columns["cpu_percent"], "one sample is its own maximum"
    assert columns["network_rx_bytes"] == [1_000, 1_001, *[None] * 57, 1_059]
    assert columns["llm_cost_usd"][0] == 0.000125
    assert columns["sample_count"] == [1, 1, *[None] * 57, 1]
    assert set(columns["memory_percent"]) == {None}, "never reported is not zero"
    rows = (await product.get(path(server, start=start, end=end, format="rows")))["rows"]
    assert [row["timestamp"] for row in rows] == [text(start + minute * MINUTE) for minute in (0, 1, 59)]
    assert set(rows[0]) == {"timestamp", *COLUMNS}
    assert (rows[2]["network_rx_bytes"], rows[2]["memory_percent"]) == (1_059, None)


async def test_the_range_chooses_the_period_unless_somebody_does(product: Product) -> None:
    database = product.fleet.database
    server = await add_server(database, "web-1")
    now = datetime.now(UTC)
    for number, period in enumerate(Period):
        await add_row(database, server, period.value, period.start_of(now - HOUR), cpu_percent=float(number))
    for length, period in ((2 * HOUR, "1m"), (24 * HOUR, "5m"), (168 * HOUR, "15m"), (720 * HOUR, "1h")):
        found = await product.get(path(server, start=now - length))
        values = [value for value in found["columns"]["cpu_percent"] if value is not None]
        assert (found["period"], values) == (period, [float(list(Period).index(Period(period)))])
        assert 100 <= len(found["timestamps"]) <= 1_000
    found = await product.get(path(server, start=now - 2 * HOUR, period="1d"))
    assert found["period"] == "1d"
    assert 4.0 in found["columns"]["cpu_percent"]
    default = await product.get(path(server))
    assert default["period"] == "5m"
    assert 288 <= len(default["timestamps"]) <= 289


async def test_maxima_of_longer_periods_are_their_own(product: Product) -> None:
    server = await add_server(product.fleet.database, "web-1")
    hour = Period.HOUR.start_of(datetime.now(UTC)) - HOUR
    await add_row(product.fleet.database, server, "1h", hour, cpu_percent=20.0, cpu_percent_max=90.0, sample_count=60)
    found = await product.get(path(server, start=hour, end=hour + HOUR, period="1h"))
    assert found["columns"]["cpu_percent"] == [20.0]
    assert found["columns"]["cpu_percent_max"] == [90.0]
    assert found["columns"]["sample_count"] == [60]


async def test_bad_ranges_name_their_parameter(product: Product) -> None:
    server = await add_server(product.fleet.database, "web-1")
    now = datetime.now(UTC)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"start": now, "end": now - HOUR}, "start"),
        ({"start": now - timedelta(days=3_660)}, "start"),
        ({"start": now - timedelta(days=14), "end": now + HOUR, "period": "1m"}, "period"),
        ({"start": "2026-01-26T14:30:15"}, "start"),
        ({"end": "tomorrow"}, "end"),
        ({"period": "2m"}, "period"),
        ({"format": "csv"}, "format"),
    ]
    for query, field in cases:
        status, problem = await product.call("GET", path(server, **query))
        assert (status, problem["errors"][0]["field"]) == (422, field), query


async def test_what_is_anothers_does_not_exist(product: Product) -> None:
    database = product.fleet.database
    theirs = await add_server(database, "web-1", await other_organization(database), status="active")
    await add_row(database, theirs, "1m", minute_of(datetime.now(UTC)), cpu_percent=50.0)
    for server in (theirs, new_id()):
        for method, target in (("GET", path(server)), ("POST", f"{SERVERS}/{server}/metrics/collect")):
            status, problem = await product.call(method, target)
            assert (status, problem["code"]) == (404, "not_found")
    for method, target in (("GET", path(theirs)), ("POST", f"{SERVERS}/{theirs}/metrics/collect")):
        assert (await product.call(method, target, headers={}))[0] == 401


async def test_collecting_now_returns_and_stores_what_the_server_says(product: Product, agents: SimulatedFleet) -> None:
    server = (await product.register("web-1", agents.url(0)))["id"]
    collect = f"{SERVERS}/{server}/metrics/collect"
    agents.set_behaviour(0, Behaviour(metrics=MetricsReport(cpu_percent=12.5, network_rx_bytes=500, llm_cost_usd=0.25)))
    status, first = await product.call("POST", collect)
    assert (status, first["server_id"], first["error"]) == (200, server, None)
    assert first["values"]["cpu_percent"] == 12.5
    assert (first["values"]["network_rx_bytes"], first["values"]["llm_cost_usd"]) == (500, 0.25)
    agents.set_behaviour(0, Behaviour(metrics=MetricsReport(cpu_percent=140.0, network_rx_bytes=750)))
    _, second = await product.call("POST", collect)
    assert second["values"]["cpu_percent"] is None
    assert second["error"].startswith("dropped cpu_percent: must be 0 to 100")
    found = await product.get(path(server, period="1m"))
    assert [value for value in found["columns"]["cpu_percent"] if value is not None] == [12.5]
    assert sum(value or 0 for value in found["columns"]["network_rx_bytes"]) == 250
    assert found["last_collection"] == {"collected_at": second["collected_at"], "error": second["error"]}


async def test_a_collection_that_fails_says_why(product: Product, agents: SimulatedFleet) -> None:
    server = (await product.register("web-1", agents.url(0)))["id"]
    assert (await product.get(path(server)))["last_collection"] == {"collected_at": None, "error": None}
    agents.set_behaviour(0, Behaviour(status=Status(503)))
    status, found = await product.call("POST", f"{SERVERS}/{server}/metrics/collect")
    assert (status, found["values"], found["error"]) == (200, None, "HTTP 503")
    assert (await product.get(path(server)))["last_collection"]["error"] == "HTTP 503"
    await product.call("PATCH", f"{SERVERS}/{server}", {"status": "maintenance"})
    status, problem = await product.call("POST", f"{SERVERS}/{server}/metrics/collect")
    assert (status, problem["code"]) == (409, "server_not_active")


def nodes(plan: dict[str, Any]) -> list[tuple[str, str]]:
    found = [(plan["Node Type"], plan.get("Index Name", plan.get("Relation Name", "")))]
    for inner in plan.get("Plans", []):
        found += nodes(inner)
    return found


@pytest.mark.parametrize(
    ("period", "length", "condition"),
    [(Period.MINUTE, HOUR, "date_bin("), (Period.HOUR, 48 * HOUR, '"timestamp" >=')],
)
async def test_one_servers_rows_come_by_an_index_of_their_months_only(
    database: Database, period: Period, length: timedelta, condition: str
) -> None:
    # The months that a fresh database has begin with this one, so the range lies in it whatever day it is.
    month = minute_of(datetime.now(UTC)).replace(day=1, hour=0, minute=0)
    start = month + 5 * HOUR
    servers = [await add_server(database, f"s-{number}") for number in range(100)]
    await execute(
        database,
        """
        INSERT INTO server_metrics_aggregated (server_id, period, timestamp, cpu_percent, sample_count)
        SELECT server, $2, $3::timestamptz + n * $4::interval, 50, 1
        FROM generate_series(0, 599) AS n, unnest($1::uuid[]) AS server
        """,
        servers,
        period.value,
        month,
        period.length,
    )
    await execute(database, "ANALYZE")
    async with database.connection() as connection:
        organization = await connection.fetchval("SELECT id FROM organizations")
        values = (UUID(str(organization)), servers[7], start, start + length)
        raw = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {series.query_of(period)}", *values)
    plan = nodes(json.loads(raw)[0]["Plan"])
    part = f"server_metrics_aggregated_{month:%Y_%m}_{period.value}"
    touched = {name for _, name in plan if "server_metrics_aggregated" in name}
    assert touched, plan
    assert all(name.startswith(part) for name in touched), plan
    assert not any(kind == "Seq Scan" for kind, _ in plan), plan
    assert any("Index" in kind and "server_id" in name for kind, name in plan), plan
    conditions = [line for line in raw.splitlines() if '"Index Cond"' in line]
    assert any("server_id" in line and condition in line.replace("\\", "") for line in conditions), conditions
