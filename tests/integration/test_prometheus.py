"""Prometheus finds the servers here and draws them: discovery, gauges, and a real Prometheus that uses both."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.simulate.behaviour import Behaviour, MetricsReport
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.store.database import Database
from opsfleet.store.fleet_gauges import OF_SERVERS, of_servers
from tests.support.product import TOKEN, Product, running_product
from tests.support.prometheus import NODE_EXPORTER, PROMETHEUS, node_exporter, prometheus, requires

SERVERS = "/api/v1/fleet/servers"
SD = "/api/v1/fleet/http-sd"
META = "__meta_opsfleet_"
CLOSED = "http://127.0.0.1:9"
STRANGERS: list[dict[str, str]] = [{}, {"Authorization": "Bearer wrong"}]


async def execute(product: Product, statement: str, *values: Any) -> None:
    async with product.fleet.database.connection() as connection:
        await connection.execute(statement, *values)


async def add_to_another_organization(product: Product, name: str) -> None:
    organization = new_id()
    await execute(product, "INSERT INTO organizations (id, name, slug) VALUES ($1, 'Other', 'other')", organization)
    await execute(
        product,
        "INSERT INTO managed_servers (id, organization_id, name, hostname, api_url, kind, health_status) "
        "VALUES ($1, $2, $3, 'h', 'https://other.example.com', 'node_exporter', 'healthy')",
        new_id(),
        organization,
        name,
    )
    await execute(
        product,
        "INSERT INTO server_groups (id, organization_id, name) VALUES ($1, $2, 'theirs')",
        new_id(),
        organization,
    )


async def add_group(product: Product, name: str, *, members: tuple[str, ...] = (), tags: tuple[str, ...] = ()) -> None:
    group_id = new_id()
    await execute(
        product,
        "INSERT INTO server_groups (id, organization_id, name, tags) VALUES ($1, $2, $3, $4)",
        group_id,
        DEFAULT_ORGANIZATION,
        name,
        list(tags),
    )
    for member in members:
        await execute(
            product, "INSERT INTO server_group_members (group_id, server_id) VALUES ($1, $2)", group_id, UUID(member)
        )


def names(groups: list[dict[str, Any]]) -> list[str]:
    return [group["labels"][f"{META}name"] for group in groups]


def series(text: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a page: their name, their server or status, their health, and their value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            key = (labels.get("server"), labels.get("status"), labels.get("health"))
            found[(sample.name, *(part for part in key if part is not None))] = sample.value
    return found


async def test_servers_are_discovered_with_what_is_known_of_them(product: Product, agents: SimulatedFleet) -> None:
    web = await product.register("web-1", agents.url(0), region="eu", environment="production", tags=["web", "blue"])
    await product.register("db-1", f"{CLOSED}/metrics", kind="node_exporter", tags=["db"])
    await add_group(product, "frontends", members=(web["id"],))
    await add_group(product, "all-web", tags=("web",))
    await add_to_another_organization(product, "theirs-1")
    db, found = await product.get(SD)
    assert found["targets"] == [agents.url(0).removeprefix("http://")]
    labels = found["labels"]
    assert labels[f"{META}server_id"] == web["id"]
    assert (labels[f"{META}organization"], labels[f"{META}region"]) == ("default", "eu")
    assert (labels[f"{META}status"], labels[f"{META}health_status"]) == ("active", "healthy")
    assert (labels[f"{META}kind"], labels[f"{META}tags"]) == ("agent", ",web,blue,")
    assert (labels[f"{META}groups"], labels[f"{META}tag_blue"]) == (",all-web,frontends,", "true")
    assert db["targets"] == ["127.0.0.1:9"]
    assert (db["labels"]["__scheme__"], db["labels"]["__metrics_path__"]) == ("http", "/metrics")
    assert db["labels"][f"{META}health_status"] == "unreachable"
    assert f"{META}groups" not in db["labels"]


async def test_discovery_can_be_narrowed(product: Product) -> None:
    servers = {
        "a": {"region": "eu", "environment": "production", "tags": ["web", "blue"]},
        "b": {"region": "us", "environment": "production", "tags": ["web"], "kind": "node_exporter"},
        "c": {"region": "us", "environment": "test"},
    }
    for name, more in servers.items():
        created = await product.register(name, CLOSED, **more)
    await product.call("PATCH", f"{SERVERS}/{created['id']}", {"status": "maintenance"})
    cases = {
        "": ["a", "b"],
        "?status=maintenance": ["c"],
        "?status=maintenance&status=active": ["a", "b", "c"],
        "?region=us": ["b"],
        "?region=us&region=eu": ["a", "b"],
        "?environment=test": [],
        "?tags=web": ["a", "b"],
        "?tags=web&tags=blue": ["a"],
        "?kind=node_exporter": ["b"],
        "?port=9187": ["a", "b"],
    }
    for query, expected in cases.items():
        assert names(await product.get(SD + query)) == expected, query
    assert {group["targets"][0] for group in await product.get(f"{SD}?port=9187")} == {"127.0.0.1:9187"}
    for query in ("?status=gone", "?kind=exporter", "?port=0", "?port=65536", "?port=x", "?region=%00", "?tags=%00"):
        status, problem = await product.call("GET", SD + query)
        assert (status, problem["code"]) == (422, "invalid"), query


async def test_all_servers_are_in_one_answer(product: Product) -> None:
    rows = [
        {"name": f"s-{number:04}", "hostname": "h", "api_url": CLOSED, "kind": "node_exporter"}
        for number in range(1_203)
    ]
    assert (await product.call("POST", f"{SERVERS}/import", {"servers": rows}))[0] == 201
    assert names(await product.get(SD)) == [row["name"] for row in rows]


async def test_what_is_known_already_is_not_sent_again(product: Product) -> None:
    await product.register("web-1", CLOSED)
    headers = {"Authorization": f"Bearer {TOKEN}"}

    async def ask(known: str) -> tuple[int, str, bytes]:
        async with product.session.get(product.url + SD, headers={**headers, "If-None-Match": known}) as answer:
            return answer.status, answer.headers["ETag"], await answer.read()

    status, tag, _ = await ask('"other"')
    assert status == 200
    assert await ask(tag) == (304, tag, b"")
    assert await ask(f'"other", W/{tag}') == (304, tag, b"")
    await product.register("web-2", CLOSED)
    status, changed, _ = await ask(tag)
    assert status == 200
    assert changed != tag


async def test_gauges_show_the_organization_s_servers(product: Product, agents: SimulatedFleet) -> None:
    services = {"active_services": 11, "failed_services": 1, "total_services": 12}
    report = MetricsReport(cpu_percent=12.5, memory_percent=44.1, active_users=5, total_users=90, **services)
    agents.set_behaviour(0, Behaviour(metrics=report))
    web = await product.register("web-1", agents.url(0), region='e"u\\', environment="production")
    await product.register("web-2", CLOSED)
    off = await product.register("web-3", CLOSED)
    await product.call("PATCH", f"{SERVERS}/{off['id']}", {"status": "inactive"})
    await product.fleet.metrics.collect_now(DEFAULT_ORGANIZATION, UUID(web["id"]))
    await add_to_another_organization(product, "theirs-1")
    text = await product.get("/metrics?servers=1")
    found = series(text)
    assert found["opsfleet_servers", "active", "healthy"] == 1
    assert found["opsfleet_servers", "active", "unreachable"] == 1
    assert found["opsfleet_servers", "inactive", "unreachable"] == 1
    assert sum(value for (name, *_), value in found.items() if name == "opsfleet_servers") == 3
    assert found["opsfleet_servers_left_out",] == 0
    assert found["opsfleet_server_health", "web-1", "healthy"] == 1
    assert found["opsfleet_server_health", "web-1", "unreachable"] == 0
    assert found["opsfleet_server_health", "web-2", "unreachable"] == 1
    assert {key[1] for key in found if key[0].startswith("opsfleet_server_")} == {"web-1", "web-2"}
    assert found["opsfleet_server_cpu_ratio", "web-1"] == 0.125
    assert found["opsfleet_server_memory_ratio", "web-1"] == 0.441
    assert ("opsfleet_server_cpu_ratio", "web-2") not in found
    assert found["opsfleet_server_services", "web-1"] == 12
    assert found["opsfleet_server_services_active", "web-1"] == 11
    assert found["opsfleet_server_services_failed", "web-1"] == 1
    assert (found["opsfleet_server_users_active", "web-1"], found["opsfleet_server_users", "web-1"]) == (5, 90)
    milliseconds = web["health_check"]["response_time_ms"]
    assert found["opsfleet_server_response_seconds", "web-1"] == pytest.approx(milliseconds / 1_000, rel=0.01)
    assert ("opsfleet_server_response_seconds", "web-2") not in found
    assert ("opsfleet_server_last_seen_timestamp_seconds", "web-1") in found
    assert ("opsfleet_server_last_seen_timestamp_seconds", "web-2") not in found
    (labels,) = (
        sample.labels
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "opsfleet_server_cpu_ratio"
    )
    assert labels == {"server": "web-1", "server_id": web["id"], "region": 'e"u\\', "environment": "production"}
    assert ("opsfleet_health_worker_running",) in found, "the control plane's own metrics are there as well"


async def test_averages_are_those_of_the_last_minute_that_is_rolled_up(product: Product) -> None:
    for minutes, region, total, count in ((1, "eu", 30.0, 3), (1, "us", 50.0, 1), (2, "eu", 300.0, 3)):
        await execute(
            product,
            """
            INSERT INTO fleet_metrics (organization_id, period, timestamp, region, environment, servers, sample_count,
                cpu_percent_sum, cpu_percent_count, memory_percent_count, disk_percent_count)
            VALUES ($1, '1m', date_trunc('minute', now()) - $2 * interval '1 minute', $3, '', 3, 3, $4, $5, 0, 0)
            """,
            DEFAULT_ORGANIZATION,
            minutes,
            region,
            total,
            count,
        )
    found = series(await product.get("/metrics?servers=1"))
    assert found["opsfleet_fleet_cpu_ratio",] == 0.2
    assert ("opsfleet_fleet_memory_ratio",) not in found


async def test_values_that_are_no_longer_true_are_not_shown(product: Product, agents: SimulatedFleet) -> None:
    web = await product.register("web-1", agents.url(0))
    await product.fleet.metrics.collect_now(DEFAULT_ORGANIZATION, UUID(web["id"]))
    assert ("opsfleet_server_cpu_ratio", "web-1") in series(await product.get("/metrics?servers=1"))
    # Older than three of this product's intervals, which are an hour.
    await execute(product, "UPDATE server_last_collections SET minute = minute - interval '4 hours'")
    await execute(product, "UPDATE server_metrics_aggregated SET timestamp = timestamp - interval '4 hours'")
    found = series(await product.get("/metrics?servers=1"))
    assert ("opsfleet_server_cpu_ratio", "web-1") not in found
    assert found["opsfleet_server_health", "web-1", "healthy"] == 1


async def test_too_many_servers_are_left_out_and_counted(product: Product) -> None:
    rows = [{"name": f"s-{number}", "hostname": "h", "api_url": CLOSED, "api_token": "t"} for number in range(5)]
    assert (await product.call("POST", f"{SERVERS}/import", {"servers": rows}))[0] == 201
    found = series(await product.get("/metrics?servers=1&limit=3"))
    assert {key[1] for key in found if key[0] == "opsfleet_server_health"} == {"s-0", "s-1", "s-2"}
    assert found["opsfleet_servers_left_out",] == 2
    assert found["opsfleet_servers", "active", "unknown"] == 5
    assert found["opsfleet_server_health", "s-0", "healthy"] == 0, "it was never checked"
    for query in ("limit=0", "limit=10001", "limit=x"):
        assert (await product.call("GET", f"/metrics?servers=1&{query}"))[0] == 422


async def test_servers_are_shown_to_nobody_without_a_token(product: Product, dsn: str) -> None:
    await product.register("web-1", CLOSED)
    for headers in STRANGERS:
        for path in ("/metrics?servers=1", SD):
            status, problem = await product.call("GET", path, headers=headers)
            assert (status, problem["code"]) == (401, "unauthenticated")
    assert (await product.call("GET", "/metrics", headers={}))[0] == 200, "it listens on loopback only"
    async with running_product(dsn, host="0.0.0.0") as open_to_all:
        for path in ("/metrics", "/metrics?servers=1"):
            assert (await open_to_all.call("GET", path, headers={}))[0] == 401
            assert "process_open_fds" in await open_to_all.get(path)


def scans(plan: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Return how each table of a plan was read, its name, and how many times."""
    own = [(plan["Node Type"], plan["Relation Name"], plan["Actual Loops"])] if "Relation Name" in plan else []
    return own + [scan for child in plan.get("Plans", ()) for scan in scans(child)]


async def test_each_server_s_values_are_looked_up_by_index(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            """
            INSERT INTO managed_servers (id, organization_id, name, hostname, api_url, last_health_check_at)
            SELECT gen_random_uuid(), $1, 's-' || number, 'h', 'https://h', date_trunc('minute', now())
            FROM generate_series(1, 2000) AS number
            """,
            DEFAULT_ORGANIZATION,
        )
        await connection.execute(
            """
            INSERT INTO server_last_collections (server_id, collected_at, minute)
            SELECT id, last_health_check_at, last_health_check_at FROM managed_servers
            """
        )
        await connection.execute(
            """
            INSERT INTO server_metrics_aggregated (timestamp, server_id, cpu_percent, sample_count, period)
            SELECT last_health_check_at - past * interval '1 minute', id, 5, 1, '1m'
            FROM managed_servers, generate_series(0, 29) AS past
            """
        )
        await connection.execute(
            """
            INSERT INTO server_health_checks (timestamp, server_id, status, response_time_ms)
            SELECT last_health_check_at - past * interval '1 minute', id, 'healthy', 7
            FROM managed_servers, generate_series(0, 29) AS past
            """
        )
        await connection.execute("ANALYZE")
        since = datetime.now(UTC) - timedelta(minutes=5)
        found = await of_servers(connection, DEFAULT_ORGANIZATION, limit=1_000, since=since)
        assert {(one.cpu_percent, one.response_time_ms) for one in found} == {(5, 7)}
        assert len(found) == 1_000
        raw = await connection.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {OF_SERVERS}", DEFAULT_ORGANIZATION, 1_000, since
        )
    tables = ("server_metrics_aggregated", "server_health_checks")
    read = [scan for scan in scans(json.loads(raw)[0]["Plan"]) if scan[1].startswith(tables) and scan[2]]
    # Tables that are nearly empty, such as the default ones, may be read as a whole.
    large = [(kind, name) for kind, name, times in read if not name.endswith("_default")]
    assert {kind for kind, _ in large} <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, read
    assert {name[:21] for _, name in large} == {"server_metrics_aggreg", "server_health_checks_"}


@requires(PROMETHEUS)
async def test_promtool_has_nothing_to_say_against_the_gauges(product: Product, agents: SimulatedFleet) -> None:
    web = await product.register("web-1", agents.url(0), region="eu")
    await product.fleet.metrics.collect_now(DEFAULT_ORGANIZATION, UUID(web["id"]))
    text = await product.get("/metrics?servers=1")
    ours = text[text.index("# HELP opsfleet_servers ") :]
    promtool = await asyncio.create_subprocess_exec(
        "promtool", "check", "metrics", stdin=-1, stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await promtool.communicate(ours.encode())
    assert (promtool.returncode, said.decode()) == (0, "")


CONFIGURATION = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: node
    http_sd_configs:
      - url: {url}/api/v1/fleet/http-sd?kind=node_exporter
        refresh_interval: 1s
        authorization:
          type: Bearer  # Debian's Prometheus sends the credentials bare unless it is told
          credentials: {token}
    relabel_configs:
      - source_labels: [__meta_opsfleet_name]
        target_label: instance
      - source_labels: [__meta_opsfleet_region]
        target_label: region
      - source_labels: [__meta_opsfleet_groups]
        regex: .*,databases,.*
        target_label: team
        replacement: storage
      - regex: __meta_opsfleet_tag_(.+)
        action: labelmap
        replacement: tag_$1
  - job_name: opsfleet
    metrics_path: /metrics
    params:
      servers: ["1"]
    authorization:
      credentials: {token}
    static_configs:
      - targets: ["{address}"]
"""


async def until_series(session: aiohttp.ClientSession, address: str, query: str) -> dict[str, str]:
    """Ask a Prometheus until it knows exactly one series; return its labels, and its value as `value`."""
    async with asyncio.timeout(60):
        while True:
            async with session.get(f"http://{address}/api/v1/query", params={"query": query}) as answer:
                # It listens a little before it can answer.
                results = (await answer.json())["data"]["result"] if answer.status != 503 else []
            if results:
                (found,) = results
                return {**found["metric"], "value": found["value"][1]}
            await asyncio.sleep(0.1)


@requires(PROMETHEUS)
@requires(NODE_EXPORTER)
async def test_a_real_prometheus_finds_and_draws_the_servers(
    product: Product, agents: SimulatedFleet, tmp_path: Path
) -> None:
    async with node_exporter() as exporter:
        agents.set_behaviour(0, Behaviour(metrics=MetricsReport(cpu_percent=12.5)))
        web = await product.register("web-1", agents.url(0), region="us")
        await product.fleet.metrics.collect_now(DEFAULT_ORGANIZATION, UUID(web["id"]))
        db = await product.register(
            "db-1", f"http://{exporter}/metrics", kind="node_exporter", api_token=None, region="eu", tags=["db"]
        )
        assert db["health_check"]["status"] == "healthy"
        await add_group(product, "databases", members=(db["id"],))
        configuration = CONFIGURATION.format(url=product.url, address=product.url.removeprefix("http://"), token=TOKEN)
        async with prometheus(configuration, tmp_path) as address:
            up = await until_series(product.session, address, 'up{job="node"} == 1')
            assert (up["instance"], up["region"], up["team"], up["tag_db"]) == ("db-1", "eu", "storage", "true")
            memory = await until_series(product.session, address, "node_memory_MemTotal_bytes")
            assert (memory["instance"], float(memory["value"]) > 0) == ("db-1", True)
            cpu = await until_series(product.session, address, 'opsfleet_server_cpu_ratio{server="web-1"}')
            assert (cpu["value"], cpu["region"], cpu["server_id"]) == ("0.125", "us", web["id"])
            health = await until_series(product.session, address, 'opsfleet_server_health{server="db-1"} == 1')
            assert health["health"] == "healthy"
            counted = await until_series(product.session, address, "sum(opsfleet_servers)")
            assert counted["value"] == "2"
            # A server that is registered later is found as well.
            await product.register("db-2", f"http://{exporter}", kind="node_exporter", api_token=None)
            await until_series(product.session, address, 'up{job="node", instance="db-2"} == 1')
