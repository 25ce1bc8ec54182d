"""Operators keep the registry from a shell: `opsfleet servers`."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from opsfleet.store.database import Database
from tests.support import rogue
from tests.support.commands import Ran, opsfleet
from tests.support.product import environment
from tests.support.registry import CLOSED, row

TOKEN = "simulated-token"


@pytest.fixture
def shell(dsn: str) -> Any:
    """Runs `opsfleet servers` on the test's database."""

    async def run(*arguments: str, stdin: str = "") -> Ran:
        return await opsfleet("servers", *arguments, settings=environment(dsn), stdin=stdin)

    return run


async def names(shell: Any) -> list[str]:
    """Return the names of all servers."""
    return [server["name"] for server in (await shell("list", "--json")).json["items"]]


async def test_a_server_is_added_found_checked_and_removed(shell: Any, agents: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    added, other = await asyncio.gather(
        shell("add", "web-1", agents.url(0), "--region", "eu", "--tag", "a", "--tag", "b", stdin=TOKEN + "\n"),
        shell("add", "web-2", agents.url(1), "--token-file", str(tmp_path / "token"), "--json"),
    )
    assert added.printed.startswith("Registered web-1 (")
    assert "\nhealthy in " in added.out
    server = other.json["server"]
    assert (server["name"], server["hostname"], server["health_status"]) == ("web-2", "web-2", "healthy")
    assert other.json["health_check"]["status"] == "healthy"

    table, of_eu, shown, by_id, checked, checked_json = await asyncio.gather(
        shell("list"),
        shell("list", "--region", "eu", "--json"),
        shell("show", "web-1"),
        shell("show", server["id"], "--json"),
        shell("check", "web-1"),
        shell("check", "web-2", "--json"),
    )
    assert [line.split()[:3] for line in table.printed.splitlines()] == [
        ["NAME", "HEALTH", "STATUS"],
        ["web-1", "healthy", "active"],
        ["web-2", "healthy", "active"],
    ]
    assert [found["name"] for found in of_eu.json["items"]] == ["web-1"]
    shown_fields = dict(line.strip().split(maxsplit=1) for line in shown.printed.splitlines())
    assert (shown_fields["name"], shown_fields["region"], shown_fields["tags"]) == ("web-1", "eu", "a, b")
    assert by_id.json["name"] == "web-2"
    assert checked.printed.startswith("healthy in ")
    assert checked_json.json["status"] == "healthy"
    assert not any(TOKEN in ran.out + ran.err for ran in (added, other, table, of_eu, shown, by_id))

    unconfirmed, removed = await asyncio.gather(shell("remove", "web-1"), shell("remove", "web-2", "--yes", "--json"))
    assert unconfirmed.status != 0
    assert removed.json["removed"]["name"] == "web-2"
    assert await names(shell) == ["web-1"]
    assert (await shell("remove", "web-1", "--yes")).printed == "Removed web-1.\n"
    assert await names(shell) == []


async def test_what_cannot_be_done_is_one_line(shell: Any, agents: Any) -> None:
    await shell("add", "web-1", agents.url(0), stdin=TOKEN)
    complaints = {
        ("add", "web-1", agents.url(1)): "'web-1' is registered already",
        ("add", "web-2", "ftp://web-2"): "api_url",
        ("show", "web-9"): "there is no server named 'web-9'",
        ("check", "web-9"): "there is no server named 'web-9'",
        ("remove", "web-9", "--yes"): "there is no server named 'web-9'",
        ("import", "/nowhere.json"): "cannot read /nowhere.json",
    }
    found = await asyncio.gather(*(shell(*command, stdin=TOKEN) for command in complaints))
    for ran, words in zip(found, complaints.values(), strict=True):
        assert words in ran.complaint
    assert await names(shell) == ["web-1"]


async def test_a_check_of_a_server_that_does_not_answer_fails_and_says_why(shell: Any) -> None:
    added = await shell("add", "lost", CLOSED, stdin=TOKEN)
    assert added.printed.endswith("unreachable: connection refused\n")
    table, as_json = await asyncio.gather(shell("check", "lost"), shell("check", "lost", "--json"))
    assert (table.status, table.out) == (1, "unreachable: connection refused\n")
    assert (as_json.status, json.loads(as_json.out)["status"]) == (1, "unreachable")


async def test_a_server_is_added_though_its_first_check_was_overtaken(shell: Any, database: Database) -> None:
    async def change_meanwhile(client: rogue.Client) -> None:
        while await client.request():
            async with database.transaction() as connection:
                await connection.execute("UPDATE managed_servers SET updated_at = clock_timestamp()")
            await client.send(rogue.answer())

    async with rogue.server(change_meanwhile) as agent:
        url = f"http://127.0.0.1:{agent.port}"
        table = await shell("add", "web-1", url, stdin=TOKEN)
        as_json = await shell("add", "web-2", url, "--json", stdin=TOKEN)
    for ran, name in ((table, "web-1"), (as_json, "web-2")):
        assert ran.status == 0
        assert ran.err.startswith(f"opsfleet: {name} is registered, but was not checked yet: ")
    assert table.out.startswith("Registered web-1 (")
    found = json.loads(as_json.out)
    assert UUID(found["server"]["id"])
    assert found["health_check"] is None
    assert await names(shell) == ["web-1", "web-2"]


async def test_servers_are_imported_from_csv_and_json(shell: Any, tmp_path: Path) -> None:
    table, objects, listed = tmp_path / "servers.csv", tmp_path / "servers.json", tmp_path / "list.json"
    table.write_text(
        "name,hostname,api_url,api_token,region,tags,metadata\n"
        f"csv-1,one.example.com,{CLOSED},{TOKEN},eu,web; blue,\n"
        f'csv-2,two.example.com,{CLOSED},{TOKEN},,,"{{""rack"": 7}}"\n'
    )
    objects.write_text(json.dumps({"servers": [row("json-1"), row("json-2")]}))
    listed.write_text(json.dumps([row("json-3")]))
    assert (await shell("import", str(table))).printed.strip() == "Imported 2 servers."
    assert (await shell("import", str(objects), "--json")).json == {"imported": 2}
    assert (await shell("import", str(listed), "--json")).json == {"imported": 1}
    found = {server["name"]: server for server in (await shell("list", "--json")).json["items"]}
    assert list(found) == ["csv-1", "csv-2", "json-1", "json-2", "json-3"]
    assert (found["csv-1"]["region"], found["csv-1"]["tags"]) == ("eu", ["web", "blue"])
    assert (found["csv-2"]["region"], found["csv-2"]["metadata"]) == (None, {"rack": 7})


async def test_an_import_with_wrong_rows_names_them_and_stores_nothing(shell: Any, tmp_path: Path) -> None:
    table, objects, text = tmp_path / "servers.csv", tmp_path / "servers.json", tmp_path / "text.json"
    table.write_text(f"name,hostname,api_url,api_token\nok,ok,{CLOSED},{TOKEN}\nbad,bad,htp://typo,{TOKEN}\n")
    objects.write_text(json.dumps([row("ok"), *(row(f"bad-{number}", api_url="htp://typo") for number in range(30))]))
    text.write_text("not JSON")
    of_csv, of_json, of_text = await asyncio.gather(
        shell("import", str(table)), shell("import", str(objects), "--json"), shell("import", str(text))
    )
    assert "1 of 2 rows are wrong, nothing was stored; the first is row 1 (bad): api_url:" in of_csv.complaint
    assert of_json.status == 1
    first, *others = of_json.err.splitlines()
    assert "30 of 31 rows are wrong, nothing was stored" in first
    assert [line.split(": api_url:")[0] for line in others] == [
        f"opsfleet: row {number + 1} (bad-{number})" for number in range(30)
    ]
    assert "is not JSON" in of_text.complaint
    assert TOKEN not in of_csv.err + of_json.err
    assert await names(shell) == []
