"""People register servers, find them, change them and remove them."""

import asyncio
import http.client
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import pytest

from opsfleet.api.wire import MAX_BODY_BYTES, encode_cursor
from tests.support.product import TOKEN, Product
from tests.support.registry import CLOSED, SERVERS, row

LAST = "01930f6e-7a00-7000-8000-000000000000"


async def test_a_registered_server_is_checked_at_once_and_can_be_read_back(product: Product, agents: Any) -> None:
    created = await product.register("web-1", agents.url(0), region="eu", tags=["web"], metadata={"rack": 7})
    assert created["health_check"]["status"] == "healthy"
    assert created["health_status"] == "healthy"
    assert created["last_seen_at"] is not None
    found = await product.get(f"{SERVERS}/{created['id']}")
    assert found == {key: value for key, value in created.items() if key != "health_check"}
    assert (found["region"], found["tags"], found["metadata"]) == ("eu", ["web"], {"rack": 7})


async def test_the_token_is_never_returned_and_not_stored_in_the_clear(product: Product, agents: Any) -> None:
    created = await product.register("web-1", agents.url(0))
    assert "token" not in str(sorted(created))
    assert "simulated-token" not in str(await product.get(SERVERS))
    async with product.fleet.database.connection() as connection:
        stored = await connection.fetchrow("SELECT * FROM managed_servers")
    assert stored is not None
    assert b"simulated-token" not in b"".join(value for value in stored.values() if isinstance(value, bytes))
    assert "simulated-token" not in str(dict(stored))


async def test_a_server_that_cannot_be_reached_is_registered_all_the_same(product: Product) -> None:
    status, created = await product.call("POST", SERVERS, row("lost"))
    assert status == 201
    assert created["health_check"]["status"] == "unreachable"
    assert created["health_check"]["error_message"] == "connection refused"
    assert created["unreachable_since"] is not None
    assert created["last_seen_at"] is None


async def test_a_name_is_taken_once(product: Product) -> None:
    assert (await product.call("POST", SERVERS, row("web-1")))[0] == 201
    status, problem = await product.call("POST", SERVERS, row("web-1"))
    assert (status, problem["code"]) == (409, "name_taken")
    assert "web-1" in problem["detail"]
    other = (await product.call("POST", SERVERS, row("web-2")))[1]
    status, problem = await product.call("PATCH", f"{SERVERS}/{other['id']}", {"name": "web-1"})
    assert (status, problem["code"]) == (409, "name_taken")


async def test_a_wrong_registration_names_its_field(product: Product) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"api_url": "not a url"}, "api_url"),
        ({"api_url": "ftp://x.example.com"}, "api_url"),
        ({"api_url": "https://exa mple.com"}, "api_url"),
        ({"api_url": "http://203.0.113.5:9100"}, "api_url"),
        ({"api_url": "https://169.254.169.254"}, "api_url"),
        ({"api_url": "https://[::ffff:169.254.169.254]"}, "api_url"),
        ({"metadata": ["not", "an", "object"]}, "metadata"),
        ({"ca_certificate": "not a certificate"}, "ca_certificate"),
        ({"name": ""}, "name"),
        ({"tags": ["x"] * 10_000}, "tags"),
        ({"nonsense": 1}, "nonsense"),
    ]
    for change, field in cases:
        status, problem = await product.call("POST", SERVERS, row("web-1", **change))
        assert (status, problem["code"]) == (422, "invalid"), change
        assert [error["field"] for error in problem["errors"]] == [field]
        assert problem["errors"][0]["message"]
        assert "very-secret" not in str(problem)
    assert (await product.get(SERVERS))["items"] == []


async def test_a_body_that_cannot_be_read_is_refused(product: Product) -> None:
    cases = [
        (b"{", 400, "malformed"),
        (b"", 400, "malformed"),
        (b'{"name": NaN}', 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b'{"name": "\xff"}', 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b'"' + b"x" * (10 * 1024 * 1024) + b'"', 413, "too_large"),
    ]
    for raw, status, code in cases:
        found, problem = await product.call("POST", SERVERS, raw=raw)
        assert (found, problem["code"]) == (status, code), raw[:50]
        assert problem["request_id"]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_client_that_sends_everything_first_hears_why_its_body_is_refused(
    product: Product, announced: bool
) -> None:
    part = b"x" * MAX_BODY_BYTES
    size = 10 * MAX_BODY_BYTES

    def send_all() -> tuple[int, Any]:
        url = urlsplit(product.url)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        if announced:
            headers["Content-Length"] = str(size)
        with closing(http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)) as connection:
            connection.request("POST", SERVERS, (part for _ in range(10)), headers, encode_chunked=not announced)
            answer = connection.getresponse()
            return answer.status, msgspec.json.decode(answer.read())

    status, problem = await asyncio.to_thread(send_all)
    assert (status, problem["code"]) == (413, "too_large")
    assert problem["errors"] == [{"field": "body", "message": "the body is over 1 MiB"}]


async def test_a_body_of_another_type_is_refused(product: Product) -> None:
    headers = {"Authorization": "Bearer test-admin-token", "Content-Type": "text/xml"}
    status, problem = await product.call("POST", SERVERS, headers=headers, raw=b"<a/>")
    assert (status, problem["code"]) == (400, "malformed")


async def test_nothing_is_done_for_a_stranger(product: Product) -> None:
    one = f"{SERVERS}/{LAST}"
    operations = [
        ("GET", SERVERS),
        ("POST", SERVERS),
        ("POST", f"{SERVERS}/import"),
        ("GET", one),
        ("PATCH", one),
        ("DELETE", one),
        ("POST", f"{one}/token"),
        ("POST", f"{one}/health-check"),
        ("GET", f"{one}/health-history"),
        ("GET", f"{one}/transitions"),
        ("GET", "/api/v1/fleet/workers/status"),
    ]
    strangers: list[dict[str, str]] = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic dGVzdA=="}]
    for method, path in operations:
        for headers in strangers:
            status, problem = await product.call(method, path, headers=headers)
            assert (status, problem["code"]) == (401, "unauthenticated"), (method, path, headers)


async def test_what_does_not_exist_is_not_found(product: Product) -> None:
    one = f"{SERVERS}/{LAST}"
    for method, path in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/health-check"),
        ("GET", "/transitions"),
    ]:
        status, problem = await product.call(method, one + path, {} if method == "PATCH" else None)
        assert (status, problem["code"]) == (404, "not_found"), (method, path)


async def test_unknown_paths_and_methods_are_problems_too(product: Product) -> None:
    assert (await product.call("GET", "/api/v1/fleet/nothing"))[1]["code"] == "not_found"
    assert (await product.call("PUT", SERVERS))[1]["code"] == "method_not_allowed"
    status, problem = await product.call("GET", f"{SERVERS}/not-an-id")
    assert (status, problem["code"], problem["errors"][0]["field"]) == (422, "invalid", "server_id")


async def test_a_change_takes_any_subset(product: Product, agents: Any) -> None:
    created = await product.register("web-1", agents.url(0), region="eu", description="front")
    status, changed = await product.call(
        "PATCH", f"{SERVERS}/{created['id']}", {"region": None, "status": "maintenance", "tags": ["a", "b"]}
    )
    assert status == 200
    assert (changed["region"], changed["status"], changed["tags"]) == (None, "maintenance", ["a", "b"])
    assert changed["description"] == "front"
    assert changed["updated_at"] > created["updated_at"]


async def test_only_active_servers_are_checked_on_request(product: Product, agents: Any) -> None:
    created = await product.register("web-1", agents.url(0))
    await product.call("PATCH", f"{SERVERS}/{created['id']}", {"status": "inactive"})
    status, problem = await product.call("POST", f"{SERVERS}/{created['id']}/health-check")
    assert (status, problem["code"]) == (409, "server_not_active")


async def test_a_replaced_token_is_the_one_that_is_sent(product: Product, agents: Any) -> None:
    created = await product.register("web-1", agents.url(0), api_token="outdated")
    assert created["health_check"]["error_message"] == "HTTP 401"
    status, _ = await product.call("POST", f"{SERVERS}/{created['id']}/token", {"api_token": "simulated-token"})
    assert status == 200
    status, check = await product.call("POST", f"{SERVERS}/{created['id']}/health-check")
    assert (status, check["status"]) == (200, "healthy")


async def test_a_removed_server_is_gone_at_once_and_its_history_in_the_background(
    product: Product, agents: Any
) -> None:
    created = await product.register("web-1", agents.url(0))
    assert (await product.call("DELETE", f"{SERVERS}/{created['id']}"))[0] == 204
    for path in ("", "/health-history", "/transitions"):
        assert (await product.call("GET", f"{SERVERS}/{created['id']}{path}"))[0] == 404
    assert (await product.call("DELETE", f"{SERVERS}/{created['id']}"))[0] == 404
    assert await product.fleet.maintenance.purge_removed() == 1
    async with product.fleet.database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM server_health_checks") == 0
        assert await connection.fetchval("SELECT count(*) FROM health_transitions") == 0
        assert await connection.fetchval("SELECT count(*) FROM removed_servers") == 0


async def test_lists_are_filtered_sorted_and_paged(product: Product) -> None:
    rows = [
        row(
            f"s-{number:02}",
            region="eu" if number % 2 else "us",
            environment="prod" if number < 6 else "test",
            tags=["web", "blue"] if number % 3 == 0 else ["web"],
        )
        for number in range(12)
    ]
    assert (await product.call("POST", f"{SERVERS}/import", {"servers": rows})) == (201, {"imported": 12})

    async def names(query: str) -> list[str]:
        return [item["name"] for item in (await product.get(f"{SERVERS}?{query}"))["items"]]

    assert await names("region=eu&environment=prod") == ["s-01", "s-03", "s-05"]
    assert await names("tags=web&tags=blue") == ["s-00", "s-03", "s-06", "s-09"]
    assert await names("q=S-1") == ["s-10", "s-11"]
    assert await names("q=%25") == []
    assert await names("health_status=critical") == []
    assert await names("status=active&limit=2&sort=-name") == ["s-11", "s-10"]
    assert (await product.get(f"{SERVERS}?region=eu&total=true"))["total"] == 6

    for sort in ("name", "-name", "region", "-created_at", "last_seen_at", "health_status"):
        seen: list[str] = []
        cursor = ""
        while True:
            page = await product.get(f"{SERVERS}?limit=5&sort={sort}{cursor}")
            seen += [item["name"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert sorted(seen) == [f"s-{number:02}" for number in range(12)], sort


async def test_a_wrong_query_names_its_parameter(product: Product) -> None:
    cases = [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("sort=secret", "sort"),
        ("status=broken", "status.0"),
        ("cursor=forged", "cursor"),
        ("cursor=WyJuYW1lIiwieCIsIm5vLXV1aWQiXQ", "cursor"),
        *(
            (f"sort={sort}&cursor={encode_cursor(sort, moment, LAST)}", "cursor")
            for sort in ("created_at", "-created_at", "last_seen_at", "last_health_check_at")
            for moment in ("abc", "", "infinity", "now", "2026-01-26T14:30:15", "9999-12-31T23:59:59-23:59")
        ),
        ("q=%00", "q"),
    ]
    for query, field in cases:
        status, problem = await product.call("GET", f"{SERVERS}?{query}")
        assert status == 422, query
        assert problem["errors"][0]["field"] == field


async def test_a_cursor_may_hold_any_moment_there_is(product: Product) -> None:
    await product.call("POST", SERVERS, row("web-1"))
    for moment, found in {"0001-01-01T00:00:00Z": 1, "-infinity": 1, "9999-12-31T23:59:59.999999Z": 0}.items():
        cursor = encode_cursor("created_at", moment, LAST)
        assert len((await product.get(f"{SERVERS}?sort=created_at&cursor={cursor}"))["items"]) == found


async def test_a_server_whose_token_cannot_be_decrypted_says_why_it_cannot_be_checked(product: Product) -> None:
    created = await product.register("web-1", CLOSED)
    async with product.fleet.database.connection() as connection:
        await connection.execute("UPDATE managed_servers SET api_token_ciphertext = 'damaged'")
    status, problem = await product.call("POST", f"{SERVERS}/{created['id']}/health-check")
    assert (status, problem["code"]) == (503, "check_failed")
    assert problem["detail"] == "web-1 cannot be checked: the stored secret has an unknown format"


async def test_a_node_exporter_is_registered_without_a_token(product: Product) -> None:
    status, created = await product.call("POST", SERVERS, row("db-1", kind="node_exporter", api_token=None))
    assert (status, created["kind"]) == (201, "node_exporter")
    assert created["health_check"]["status"] == "unreachable"
    status, problem = await product.call("POST", SERVERS, row("db-2", kind="agent", api_token=None))
    assert (status, [error["field"] for error in problem["errors"]]) == (422, ["api_token"])


async def test_a_server_becomes_an_agent_only_when_it_has_a_token(product: Product) -> None:
    created = (await product.call("POST", SERVERS, row("db-1", kind="node_exporter", api_token=None)))[1]
    one = f"{SERVERS}/{created['id']}"
    status, problem = await product.call("PATCH", one, {"kind": "agent"})
    assert (status, problem["code"], problem["errors"][0]["field"]) == (422, "invalid", "kind")
    assert "token" in problem["detail"]
    assert (await product.call("POST", f"{one}/token", {"api_token": "very-secret"}))[0] == 200
    status, changed = await product.call("PATCH", one, {"kind": "agent"})
    assert (status, changed["kind"]) == (200, "agent")
    assert (await product.call("PATCH", one, {"kind": "node_exporter"}))[1]["kind"] == "node_exporter"
    assert (await product.call("PATCH", f"{SERVERS}/{UUID(int=1)}", {"kind": "agent"}))[0] == 404


async def test_agents_and_node_exporters_are_imported_together(product: Product) -> None:
    rows = [row("web-1"), row("db-1", kind="node_exporter", api_token=None), row("db-2", kind="node_exporter")]
    assert await product.call("POST", f"{SERVERS}/import", {"servers": rows}) == (201, {"imported": 3})
    kinds = {server["name"]: server["kind"] for server in (await product.get(SERVERS))["items"]}
    assert kinds == {"web-1": "agent", "db-1": "node_exporter", "db-2": "node_exporter"}
    wrong = [row("web-2", api_token=None), row("db-3", kind="exporter")]
    status, problem = await product.call("POST", f"{SERVERS}/import", {"servers": wrong})
    assert (status, [error["field"] for error in problem["errors"]]) == (
        422,
        ["servers.0.api_token", "servers.1.kind"],
    )
