"""Many servers' metrics together: from the roll-up where it can tell, else from the servers' own rows."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.integration.metrics.history import add_fleet_row, add_row, add_server, execute, other_organization
from tests.support.product import Product

from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.domain.metrics import Period
from opsfleet.domain.series import FLEET_COLUMNS, GroupBy
from opsfleet.store import fleet_series
from opsfleet.store.database import Database
from opsfleet.store.fleet_series import FleetFilter

PATH = "/api/v1/fleet/metrics/aggregated"
HOUR = timedelta(hours=1)
STEP = Period.FIVE_MINUTES.length


def path(**query: Any) -> str:
    given = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in query.items()}
    return f"{PATH}?{urlencode(given, doseq=True)}"


def by_key(found: Any, column: str) -> dict[str | None, list[Any]]:
    return {series["key"]: series["columns"][column] for series in found["series"]}


@pytest.fixture
def start() -> datetime:
    """A quarter of an hour that is over."""
    return Period.QUARTER.start_of(datetime.now(UTC)) - 2 * HOUR


async def test_the_fleet_and_its_regions_come_from_the_rollup(product: Product, start: datetime) -> None:
    database = product.fleet.database
    cost = {"llm_cost_usd": 0.5, "network_rx_bytes": 100, "active_users": 3}
    await add_fleet_row(database, "5m", start, region="eu", environment="prod", servers=3, cpu=10.0, **cost)
    await add_fleet_row(database, "5m", start, region="eu", environment="test", servers=1, cpu=50.0, **cost)
    await add_fleet_row(database, "5m", start, region="us", environment="prod", servers=4, cpu=40.0, **cost)
    await add_fleet_row(database, "5m", start + 2 * STEP, servers=2, cpu=5.0)
    await add_fleet_row(database, "1m", start, servers=9, cpu=99.0)
    other = await other_organization(database)
    await add_fleet_row(database, "5m", start, other, region="eu", environment="prod", servers=100, cpu=100.0, **cost)
    span = {"start": start, "end": start + 3 * STEP, "period": "5m"}

    found = await product.get(path(**span))
    assert (found["group_by"], found["period"], len(found["timestamps"])) == ("none", "5m", 3)
    (only,) = found["series"]
    assert (only["key"], only["label"]) == (None, None)
    columns = only["columns"]
    assert set(columns) == set(FLEET_COLUMNS)
    assert columns["cpu_percent"] == [30.0, None, 5.0], "the average over servers, not over regions"
    assert columns["cpu_percent_max"] == [50.0, None, 5.0]
    assert columns["servers"] == [8, None, 2]
    assert (columns["llm_cost_usd"][0], columns["network_rx_bytes"][0], columns["active_users"][0]) == (1.5, 300, 9)
    assert columns["memory_percent"] == [None, None, None]

    regions = await product.get(path(**span, group_by="region"))
    assert [series["label"] for series in regions["series"]] == ["eu", "us", None]
    assert by_key(regions, "cpu_percent") == {
        "eu": [20.0, None, None],
        "us": [40.0, None, None],
        None: [None, None, 5.0],
    }
    environments = await product.get(path(**span, group_by="environment", region="eu"))
    assert by_key(environments, "servers") == {"prod": [3, None, None], "test": [1, None, None]}
    two = await product.get(path(**span, region=["eu", "us"], environment="prod", format="rows"))
    (series,) = two["series"]
    assert [(row["timestamp"], row["servers"]) for row in series["rows"]] == [(found["timestamps"][0], 7)]


async def servers_with_rows(database: Database, start: datetime) -> None:
    """Two web servers, one of them also for the database, and one of another organization."""
    for name, tags, region, cpu in (
        ("a", ["web"], "eu", 10.0),
        ("b", ["db", "web"], "us", 30.0),
        ("c", [], "eu", 80.0),
    ):
        server = await add_server(database, name, tags=tags, region=region)
        for period in ("1m", "5m"):
            await add_row(database, server, period, start, cpu_percent=cpu, network_tx_bytes=10, total_users=2)
    other = await other_organization(database)
    theirs = await add_server(database, "x", other, tags=["web"], region="eu")
    await add_row(database, theirs, "5m", start, cpu_percent=100.0, network_tx_bytes=1_000)


async def test_tags_are_read_from_the_rows_of_the_servers(product: Product, start: datetime) -> None:
    await servers_with_rows(product.fleet.database, start)
    span = {"start": start, "end": start + STEP, "period": "5m"}
    found = await product.get(path(**span, group_by="tag"))
    assert by_key(found, "cpu_percent") == {"db": [30.0], "web": [20.0]}
    assert by_key(found, "cpu_percent_max") == {"db": [30.0], "web": [30.0]}
    assert by_key(found, "network_tx_bytes") == {"db": [10], "web": [20]}
    assert by_key(found, "servers") == {"db": [1], "web": [2]}
    tagged = await product.get(path(**span, tags="web"))
    assert by_key(tagged, "servers") == {None: [2]}
    both = await product.get(path(**span, tags=["web", "db"], group_by="region"))
    assert by_key(both, "total_users") == {"us": [2]}
    minute = await product.get(path(start=start, end=start + STEP, group_by="tag", tags="db"))
    assert (minute["period"], by_key(minute, "servers")["db"][:2]) == ("1m", [1, None])


async def test_groups_count_their_members_by_hand_and_by_rule(product: Product, start: datetime) -> None:
    database = product.fleet.database
    await servers_with_rows(database, start)
    other = (await _fetch(database, "SELECT id FROM organizations WHERE slug = 'other'"))[0]["id"]
    by_rule, by_hand, empty, theirs = (new_id() for _ in range(4))
    for group, organization, name, tags in (
        (by_rule, DEFAULT_ORGANIZATION, "Web", ["web"]),
        (by_hand, DEFAULT_ORGANIZATION, "Chosen", []),
        (empty, DEFAULT_ORGANIZATION, "Empty", ["nobody"]),
        (theirs, other, "Theirs", ["web"]),
    ):
        await execute(
            database,
            "INSERT INTO server_groups (id, organization_id, name, tags) VALUES ($1, $2, $3, $4)",
            group,
            organization,
            name,
            tags,
        )
    # A row that ties together what must not belong together gives nothing away.
    await execute(
        database,
        """
        INSERT INTO server_group_members (group_id, server_id)
        SELECT $1::uuid, id FROM managed_servers WHERE name IN ('c', 'x')
        UNION ALL SELECT $2::uuid, id FROM managed_servers WHERE name = 'a'
        """,
        by_hand,
        theirs,
    )
    span = {"start": start, "end": start + STEP, "period": "5m"}
    found = await product.get(path(**span, group_by="group"))
    assert [(series["key"], series["label"]) for series in found["series"]] == [
        (str(by_hand), "Chosen"),
        (str(by_rule), "Web"),
    ]
    assert by_key(found, "servers") == {str(by_hand): [1], str(by_rule): [2]}
    assert by_key(found, "cpu_percent") == {str(by_hand): [80.0], str(by_rule): [20.0]}
    one = await product.get(path(**span, group_id=str(by_rule), group_by="region"))
    assert by_key(one, "cpu_percent") == {"eu": [10.0], "us": [30.0]}
    assert (await product.get(path(**span, group_id=str(empty))))["series"] == []
    for group in (theirs, new_id()):
        status, problem = await product.call("GET", path(**span, group_id=str(group)))
        assert (status, problem["code"]) == (404, "not_found")


async def _fetch(database: Database, query: str, *values: Any) -> list[Any]:
    async with database.connection() as connection:
        return list(await connection.fetch(query, *values))


async def test_many_servers_are_read_in_a_longer_period(product: Product) -> None:
    database = product.fleet.database
    await execute(
        database,
        """
        INSERT INTO managed_servers (id, organization_id, name, hostname, api_url, api_token_hash,
            api_token_ciphertext, status, tags)
        SELECT gen_random_uuid(), $1, 's-' || n, 'h', 'https://h', '', '', 'inactive', '["web"]'
        FROM generate_series(1, 2000) n
        """,
        DEFAULT_ORGANIZATION,
    )
    day = datetime.now(UTC) - 24 * HOUR
    assert (await product.get(path(start=day)))["period"] == "5m"
    assert (await product.get(path(start=day, group_by="tag")))["period"] == "15m"
    status, problem = await product.call("GET", path(start=day, group_by="tag", period="1m"))
    assert (status, problem["errors"][0]["field"]) == (422, "period")
    assert "at most 300,000 are read" in problem["detail"]
    status, problem = await product.call("GET", path(start=day - 300 * 24 * HOUR, tags="web"))
    assert (status, problem["errors"][0]["field"]) == (422, "start")


async def test_bad_questions_name_their_parameter(product: Product) -> None:
    for query, field in (
        ({"group_by": "colour"}, "group_by"),
        ({"group_id": "x"}, "group_id"),
        ({"period": "1w"}, "period"),
        ({"start": "never"}, "start"),
        ({"region": "a\x00"}, "region"),
        ({"tags": "\x00"}, "tags"),
    ):
        status, problem = await product.call("GET", path(**query))
        assert (status, problem["errors"][0]["field"]) == (422, field), query
    assert (await product.get(path()))["series"] == []
    assert (await product.call("GET", PATH, headers={}))[0] == 401


def nodes(plan: dict[str, Any]) -> list[tuple[str, str]]:
    found = [(plan["Node Type"], plan.get("Index Name", plan.get("Relation Name", "")))]
    for inner in plan.get("Plans", []):
        found += nodes(inner)
    return found


async def explain(database: Database, query: str, values: list[Any]) -> list[tuple[str, str]]:
    async with database.connection() as connection:
        return nodes(json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *values))[0]["Plan"])


async def test_the_fleets_day_comes_by_the_index_of_its_month_only(database: Database) -> None:
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await execute(
        database,
        """
        INSERT INTO fleet_metrics (organization_id, period, timestamp, region, environment, servers, sample_count,
            cpu_percent_count, memory_percent_count, disk_percent_count)
        SELECT organization, '5m', $1::timestamptz + n * interval '5 minutes', 'r' || r, 'prod', 1, 1, 0, 0, 0
        FROM generate_series(0, 2999) n, generate_series(1, 5) r, unnest($2::uuid[]) AS organization
        """,
        month,
        [DEFAULT_ORGANIZATION, *(new_id() for _ in range(3))],
    )
    await execute(database, "ANALYZE")
    day = (month + 48 * HOUR, month + 72 * HOUR)
    query, values = fleet_series._of_organization(
        DEFAULT_ORGANIZATION, GroupBy.REGION, FleetFilter(), Period.FIVE_MINUTES, *day
    )
    plan = await explain(database, query, values)
    touched = {name for _, name in plan if "fleet_metrics" in name}
    assert touched, plan
    assert all(name.startswith(f"fleet_metrics_{month:%Y_%m}_5m") for name in touched), plan
    assert not any(kind == "Seq Scan" for kind, _ in plan), plan


async def test_a_few_servers_of_many_are_found_by_their_index(database: Database) -> None:
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    servers = [await add_server(database, f"s-{number}", tags=["rare"] if number < 3 else []) for number in range(200)]
    await execute(
        database,
        """
        INSERT INTO server_metrics_aggregated (server_id, period, timestamp, cpu_percent, sample_count)
        SELECT server, '1h', $2::timestamptz + n * interval '1 hour', 50, 1
        FROM generate_series(0, 599) AS n, unnest($1::uuid[]) AS server
        """,
        servers,
        month,
    )
    await execute(database, "ANALYZE")
    span = (month + 48 * HOUR, month + 72 * HOUR)
    query, values = fleet_series._of_servers(
        DEFAULT_ORGANIZATION, GroupBy.TAG, FleetFilter(tags=("rare",)), Period.HOUR, *span
    )
    plan = await explain(database, query, values)
    touched = [(kind, name) for kind, name in plan if "server_metrics" in name]
    assert touched, plan
    assert all("Index" in kind for kind, _ in touched), plan
    assert all(name.startswith(f"server_metrics_aggregated_{month:%Y_%m}_1h") for _, name in touched), plan
