"""PostgreSQL goes away and comes back: nothing is lost, callers are told, and nobody has to restart anything."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog

from opsfleet import app
from opsfleet.embedded import EmbeddedPostgres
from opsfleet.polling import PollingEngine, Target
from opsfleet.polling.outcome import Sink
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.simulate.behaviour import Behaviour, Status
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.store.database import Database
from opsfleet.store.migrate import migrate
from tests.integration.test_health_worker import watching
from tests.support.postgres import short_folder, throw_away_postgres
from tests.support.product import TOKEN, running_product
from tests.support.waiting import until

SERVERS = "/api/v1/fleet/servers"
BEFORE = 100
"""So many servers answer before PostgreSQL stops, and as many while it is away."""


@pytest.fixture
async def own_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """A migrated PostgreSQL that the test may stop."""
    with throw_away_postgres() as server:
        database = Database(server.dsn)
        await migrate(database)
        await MaintenanceService(database).ensure_partitions()
        await database.close()
        yield server


class Gate:
    """Lets the first requests through and holds the others back until it is opened."""

    def __init__(self, engine: PollingEngine, first: int) -> None:
        self._submit = engine.submit
        self._left = first
        self._held: list[tuple[Target, str, Sink]] = []

    def submit(self, target: Target, path: str, sink: Sink) -> None:
        if self._left:
            self._left -= 1
            self._submit(target, path, sink)
        else:
            self._held.append((target, path, sink))

    def open(self) -> None:
        for request in self._held:
            self._submit(*request)


async def test_postgresql_that_is_stopped_in_mid_cycle_gets_every_result_once_it_is_back(
    own_postgres: EmbeddedPostgres, engine: PollingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(own_postgres.dsn)
    dsn = own_postgres.dsn
    async with SimulatedFleet(servers=2 * BEFORE) as agents, watching(database, engine) as watch:
        ids = [await watch.add(f"s-{number}", agents.url(number)) for number in range(2 * BEFORE)]
        await watch.cycle()
        # The longest unchecked come first, so these are the ones of which PostgreSQL hears nothing at first.
        order = [server.id for server in sorted(watch.worker._servers.values(), key=lambda server: server.checked_at)]
        number_of = {server_id: number for number, server_id in enumerate(ids)}
        early, late, gone = order[5], order[BEFORE + 5], order[BEFORE + 50]
        agents.set_behaviour([number_of[early], number_of[late]], Behaviour(status=Status(code=500)))
        agents.set_behaviour(number_of[gone], Behaviour(network="refuse"))
        gate = Gate(engine, BEFORE)
        with structlog.testing.capture_logs() as logs:
            with monkeypatch.context() as patched:
                patched.setattr(engine, "submit", gate.submit)
                cycle = asyncio.create_task(watch.cycle())
                await until(lambda: watch.worker.get_stats()["checks_performed"] == 3 * BEFORE)
            await asyncio.to_thread(own_postgres.stop)
            assert not own_postgres.is_running
            gate.open()
            await until(lambda: watch.worker.get_stats()["cycles"] == 2)
            await until(lambda: any("wait for the database" in entry["event"] for entry in logs))
            assert watch.worker.get_stats()["results_buffered"] >= BEFORE
            assert not cycle.done()
            await asyncio.to_thread(own_postgres.start)
            assert own_postgres.dsn == dsn
            await cycle
        assert sum(entry["event"].startswith("Database is back") for entry in logs) == 1
        stats = watch.worker.get_stats()
        assert (stats["results_buffered"], stats["results_dropped"], stats["cycles_failed"]) == (0, 0, 0)
        checks = await watch.fetch("SELECT server_id, status FROM server_health_checks")
        assert Counter(row["server_id"] for row in checks) == dict.fromkeys(ids, 2)
        assert Counter(row["status"] for row in checks) == {"healthy": 4 * BEFORE - 3, "critical": 2, "unreachable": 1}
        changes = await watch.fetch("SELECT server_id, to_status FROM health_transitions WHERE from_status = 'healthy'")
        expected = {early: "critical", late: "critical", gone: "unreachable"}
        assert len(changes) == 3
        assert {row["server_id"]: row["to_status"] for row in changes} == expected
        servers = await watch.fetch("SELECT id, health_status FROM managed_servers")
        assert {row["id"]: row["health_status"] for row in servers} == dict.fromkeys(ids, "healthy") | expected
        assert len(await watch.fetch("SELECT 1 FROM health_transitions")) == 2 * BEFORE + 3

        agents.set_behaviour([number_of[server_id] for server_id in expected], None)
        await watch.cycle()
        servers = await watch.fetch("SELECT DISTINCT health_status FROM managed_servers")
        assert [row["health_status"] for row in servers] == ["healthy"], "the worker goes on as before"
    await database.close()


async def test_callers_are_told_to_come_back_while_the_database_is_away(own_postgres: EmbeddedPostgres) -> None:
    async with running_product(own_postgres.dsn) as product:
        created = await product.register("web-1", "http://127.0.0.1:9")
        await asyncio.to_thread(own_postgres.stop)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        body = {"name": "web-2", "hostname": "web-2", "api_url": "http://127.0.0.1:9", "api_token": "long-enough"}
        calls: list[tuple[str, str, Any]] = [
            ("GET", SERVERS, None),
            ("GET", f"{SERVERS}/{created['id']}", None),
            ("POST", SERVERS, body),
            ("POST", f"{SERVERS}/{created['id']}/health-check", None),
        ]
        for method, path, sent in calls:
            async with product.session.request(method, product.url + path, headers=headers, json=sent) as answer:
                problem = await answer.json(content_type="application/problem+json")
                assert (answer.status, problem["code"]) == (503, "database_unavailable"), path
                assert int(answer.headers["Retry-After"]) > 0
        assert (await product.call("GET", "/readyz"))[0] == 503
        assert (await product.call("GET", "/healthz"))[0] == 200

        await asyncio.to_thread(own_postgres.start)
        await until(lambda: _answers(product, SERVERS))
        assert (await product.get(f"{SERVERS}/{created['id']}"))["name"] == "web-1"
        assert (await product.register("web-2", "http://127.0.0.1:9"))["name"] == "web-2"
        await until(lambda: _answers(product, "/readyz"))


async def test_an_embedded_database_that_was_killed_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "DATABASE_CHECK_SECONDS", 0.05)
    with short_folder() as folder:
        async with running_product(None, data_dir=folder / "fleet") as product:
            await product.register("web-1", "http://127.0.0.1:9")
            killed = _postmaster(folder)
            with structlog.testing.capture_logs() as logs:
                killed.kill()
                await asyncio.to_thread(killed.wait, 60)
                await until(lambda: any("was started again" in entry["event"] for entry in logs))
            await until(lambda: _answers(product, SERVERS))
            assert [server["name"] for server in (await product.get(SERVERS))["items"]] == ["web-1"]
            assert _postmaster(folder).pid != killed.pid


async def _answers(product: Any, path: str) -> bool:
    status, _ = await product.call("GET", path)
    return bool(status == 200)


def _postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "fleet/postgres/data/postmaster.pid").read_text().split()[0]))
