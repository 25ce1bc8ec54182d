"""Operators migrate, look for what is wrong, and look at the fleet, from a shell."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from opsfleet.domain.partitions import months_to_keep_ready
from opsfleet.store.database import Database
from opsfleet.store.migrate import newest_revision
from tests.support import rogue
from tests.support.commands import Ran, opsfleet
from tests.support.product import Product, environment
from tests.support.registry import CLOSED

OTHER_KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY="


def findings(ran: Ran) -> dict[str, Any]:
    """Return what `doctor --json` found, by name."""
    return {finding["name"]: finding for finding in Ran(0, ran.out, ran.err).json["findings"]}


async def test_migrate_makes_an_empty_database_ready_and_can_be_repeated(empty_dsn: str) -> None:
    settings = environment(empty_dsn)
    unprepared = findings(await opsfleet("doctor", "--json", settings=settings))
    assert (unprepared["schema"]["ok"], unprepared["schema"]["remedy"]) == (False, "run opsfleet migrate")
    ran = await opsfleet("migrate", settings=settings)
    assert ran.printed == f"The schema is at revision {newest_revision()}.\n"
    assert (await opsfleet("migrate", "--json", settings=settings)).json == {"revision": newest_revision()}
    assert (await opsfleet("servers", "list", "--json", settings=settings)).json == {"items": []}


async def test_a_database_that_is_away_is_one_line_with_every_command() -> None:
    with rogue.closed_port() as port:
        settings = environment(f"postgresql://fleet:hunter2@127.0.0.1:{port}/ops")
        commands = (["migrate"], ["status"], ["servers", "list"], ["servers", "show", "web-1"])
        for ran in await asyncio.gather(*(opsfleet(*command, settings=settings) for command in commands)):
            assert "the database is away" in ran.complaint
            assert "hunter2" not in ran.err + ran.out
        serve = await opsfleet("serve", settings=settings)
        assert serve.status != 0
        assert serve.err.splitlines()[-1].startswith("opsfleet: the database is away")
        assert "Traceback" not in serve.err
        doctor = await opsfleet("doctor", settings=settings)
        assert doctor.status == 1
        assert "FAIL  database    the database is away" in doctor.out
        assert "→ check POSTGRES_* or DATABASE_URL" in doctor.out


async def test_a_malformed_address_is_one_line_that_does_not_show_it() -> None:
    cases = [
        ("migrate", "postgresql://fleet:hunter2@db:abc/ops"),
        ("doctor", "postgresql://fleet:hunter2@[bad/ops"),
        ("serve", "postgresql://fleet:hunter2@db/ops?sslmode=bogus"),
    ]
    for ran in await asyncio.gather(*(opsfleet(command, settings=environment(address)) for command, address in cases)):
        assert "DATABASE_URL" in ran.complaint
        assert "postgresql://user:password@host:5432/database" in ran.err
        assert "hunter2" not in ran.err + ran.out


async def test_an_address_that_the_driver_or_the_server_refuses_is_one_line_too(dsn: str) -> None:
    for address in (f"{dsn}&port=hunter2", f"{dsn}&nonsense=hunter2"):
        ran = await opsfleet("migrate", settings=environment(address))
        assert "DATABASE_URL" in ran.complaint
        assert "hunter2" not in ran.err + ran.out


async def test_doctor_finds_nothing_wrong_with_a_running_product(product: Product, agents: Any, dsn: str) -> None:
    await product.register("web-1", agents.url(0))
    await product.until("/readyz", lambda body: body["status"] == "ok")
    table, json = await asyncio.gather(
        opsfleet("doctor", settings=environment(dsn)), opsfleet("doctor", "--json", settings=environment(dsn))
    )
    lines = table.printed.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", name] for name in ("settings", "database", "schema", "clock", "partitions", "key", "workers")
    ]
    assert "decrypts the tokens of 1 servers" in table.out
    assert json.status == 0
    assert all(finding["ok"] for finding in findings(json).values())


async def test_doctor_names_each_thing_that_is_wrong_with_its_remedy(database: Database, dsn: str) -> None:
    added = await opsfleet("servers", "add", "web-1", CLOSED, settings=environment(dsn), stdin="secret")
    assert added.status == 0
    partition = months_to_keep_ready(datetime.now(UTC))[1].partition("server_health_checks")
    async with database.connection() as connection:
        await connection.execute(f"DROP TABLE {partition}")
    settings = environment(dsn, secret_key=OTHER_KEY)
    table, json = await asyncio.gather(
        opsfleet("doctor", settings=settings), opsfleet("doctor", "--json", settings=settings)
    )
    assert (table.status, json.status) == (1, 1)
    found = findings(json)
    assert [name for name, finding in found.items() if not finding["ok"]] == ["partitions", "key", "workers"]
    assert found["partitions"]["message"] == f"missing: {partition}"
    assert found["key"]["message"] == "1 of 1 server tokens cannot be decrypted"
    for name, remedy in {
        "partitions": "run opsfleet migrate",
        "key": "set FLEET_SECRET_KEY to the key they were stored with",
        "workers": "start opsfleet serve",
    }.items():
        assert found[name]["remedy"] == remedy
        assert f"FAIL  {name:<11} {found[name]['message']}\n" in table.out
        assert f"→ {remedy}\n" in table.out
    await opsfleet("migrate", settings=settings)
    assert findings(await opsfleet("doctor", "--json", settings=settings))["partitions"]["ok"]


async def test_doctor_tells_of_wrong_settings_in_json_too() -> None:
    ran = await opsfleet("doctor", "--json", settings={"FLEET_PORT": "65536"})
    assert ran.status == 1
    found = findings(ran)
    assert list(found) == ["settings"]
    assert "FLEET_PORT is '65536'" in found["settings"]["message"]


async def test_status_counts_servers_and_shows_the_workers(product: Product, agents: Any, dsn: str) -> None:
    await product.register("web-1", agents.url(0))
    with rogue.closed_port() as port:
        await product.register("web-2", f"http://127.0.0.1:{port}")
    await product.until("/readyz", lambda body: body["status"] == "ok")
    settings = environment(dsn)
    table, json = await asyncio.gather(
        opsfleet("status", settings=settings), opsfleet("status", "--json", settings=settings)
    )
    first, *_, health, metrics = table.printed.splitlines()
    assert first.startswith("2 servers: ")
    for part in ("healthy 1", "degraded 0", "unreachable 1"):
        assert part in first
    assert health.split()[:2] == ["health", "yes"]
    assert metrics.split()[:2] == ["metrics", "yes"]
    assert (json.json["servers"], json.json["by_status"]["active"], json.json["instances"]) == (2, 2, 1)
    assert json.json["by_health"] == {"healthy": 1, "degraded": 0, "critical": 0, "unreachable": 1, "unchecked": 0}
    assert json.json["health_worker"]["running"] is True
