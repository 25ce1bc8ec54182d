"""What was found can be read back: checks and changes of health."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from opsfleet.api.wire import encode_cursor
from tests.support.product import Product

SERVERS = "/api/v1/fleet/servers"
OUT_OF_TIME = ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+00:01")
"""Moments that have no name in UTC."""


async def with_history(product: Product, agents: Any, checks: int) -> str:
    server: dict[str, Any] = await product.register("web-1", agents.url(0))
    async with product.fleet.database.connection() as connection:
        await connection.execute("DELETE FROM server_health_checks")
        await connection.execute(
            """
            INSERT INTO server_health_checks (server_id, timestamp, status, response_time_ms, error_message)
            SELECT $1, date_trunc('hour', now()) - n * interval '1 minute',
                CASE WHEN n % 10 = 0 THEN 'critical' ELSE 'healthy' END, n, CASE WHEN n % 10 = 0 THEN 'HTTP 500' END
            FROM generate_series(1, $2::int) n
            """,
            server["id"],
            checks,
        )
    return str(server["id"])


async def test_checks_come_newest_first_in_pages_that_fit_together(product: Product, agents: Any) -> None:
    server = await with_history(product, agents, 250)
    seen: list[Any] = []
    cursor = ""
    while True:
        page = await product.get(f"{SERVERS}/{server}/health-history?limit=100{cursor}")
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [item["response_time_ms"] for item in seen] == [float(n) for n in range(1, 251)]
    assert seen[9]["error_message"] == "HTTP 500"


async def test_a_range_includes_its_start_and_excludes_its_end(product: Product, agents: Any) -> None:
    server = await with_history(product, agents, 60)
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(minutes=10)
    start = end - timedelta(minutes=5)
    query = f"start={quote(start.isoformat())}&end={quote(end.isoformat())}"
    items = (await product.get(f"{SERVERS}/{server}/health-history?{query}"))["items"]
    assert [item["response_time_ms"] for item in items] == [11.0, 12.0, 13.0, 14.0, 15.0]


async def test_a_check_now_appears_in_the_history_and_a_change_among_the_transitions(
    product: Product, agents: Any
) -> None:
    server = await product.register("web-1", agents.url(0))
    status, check = await product.call("POST", f"{SERVERS}/{server['id']}/health-check")
    assert status == 200
    items = (await product.get(f"{SERVERS}/{server['id']}/health-history"))["items"]
    assert items[0] == check
    assert len(items) == 2
    await product.call("PATCH", f"{SERVERS}/{server['id']}", {"api_url": "http://127.0.0.1:9"})
    await product.call("POST", f"{SERVERS}/{server['id']}/health-check")
    changes = (await product.get(f"{SERVERS}/{server['id']}/transitions"))["items"]
    assert [(change["from_status"], change["to_status"], change["reason"]) for change in changes] == [
        ("healthy", "unreachable", "connection refused"),
        (None, "healthy", None),
    ]


async def test_the_first_and_the_last_moment_there_are_make_a_range(product: Product, agents: Any) -> None:
    server = await product.register("web-1", agents.url(0))
    ends = "start=0001-01-01T00:00:00Z&end=9999-12-31T23:59:59.999999Z"
    for path in ("health-history", "transitions"):
        for cursor in ("", f"&cursor={encode_cursor('9999-12-31T23:59:59.999999Z')}"):
            assert len((await product.get(f"{SERVERS}/{server['id']}/{path}?{ends}{cursor}"))["items"]) == 1


async def test_a_wrong_range_names_its_parameter(product: Product, agents: Any) -> None:
    server = await product.register("web-1", agents.url(0))
    cases = [
        ("start=yesterday", "start"),
        ("end=2026-01-01", "end"),
        ("start=0001-01-01T00:00:00%2B02:00", "start"),
        ("start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", "start"),
        ("limit=501", "limit"),
        ("cursor=x", "cursor"),
        *((f"start={quote(moment)}", "start") for moment in OUT_OF_TIME),
        *((f"end={quote(moment)}", "end") for moment in OUT_OF_TIME),
        *((f"cursor={encode_cursor(moment)}", "cursor") for moment in OUT_OF_TIME),
    ]
    for query, field in cases:
        for path in ("health-history", "transitions"):
            status, problem = await product.call("GET", f"{SERVERS}/{server['id']}/{path}?{query}")
            assert (status, problem["errors"][0]["field"]) == (422, field)
