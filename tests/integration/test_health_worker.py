"""The health worker watches a fleet: what it stores, what it judges, and what it leaves alone."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import structlog

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.domain.health import HealthCheck, HealthStatus
from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.polling import NetworkPolicy, PollingEngine
from opsfleet.services.health import CheckBrokeError, HealthService
from opsfleet.services.servers import ServerService
from opsfleet.services.targets import TargetSource
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.store import health_checks, targets
from opsfleet.store.database import Database
from opsfleet.store.health_checks import CheckToWrite
from opsfleet.vault import Vault
from opsfleet.workers.health import FleetHealthWorker, start_health_worker, stop_health_worker
from opsfleet.workers.polling import Pacing
from tests.support import rogue

KEY = bytes(range(32))


class Watch:
    """A worker on a database, with what a test wants to do and see."""

    def __init__(self, database: Database, engine: PollingEngine, **settings: Any) -> None:
        self.database = database
        self.engine = engine
        self.vault = Vault(KEY)
        self.servers = ServerService(database, self.vault, NetworkPolicy(http_allow=engine._policy._http_allow))
        self.health = HealthService(database, engine, self.vault)
        pacing = {"interval": 3600.0, "batch_size": 10, "batch_delay": 0.0, "buffer_capacity": 10_000, **settings}
        self.source = TargetSource(database, self.vault)
        self.worker = FleetHealthWorker(self.source, engine, Pacing(**pacing), service=self.health)

    async def add(self, name: str, api_url: str, **more: Any) -> UUID:
        row = {"name": name, "hostname": name, "api_url": api_url, "api_token": "simulated-token", **more}
        return (await self.servers.register(DEFAULT_ORGANIZATION, row)).id

    async def cycle(self) -> None:
        """Run one cycle and wait until its results are stored."""
        await self.worker._guarded_cycle(datetime.now(UTC))
        await self.worker._buffer.settled()

    async def row(self, server_id: UUID) -> Any:
        async with self.database.connection() as connection:
            return await connection.fetchrow("SELECT * FROM managed_servers WHERE id = $1", server_id)

    async def revision(self, server_id: UUID) -> int:
        async with self.database.connection() as connection:
            (row,) = await targets.select(connection, [server_id])
        return row.revision

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        async with self.database.connection() as connection:
            return list(await connection.fetch(query, *values))

    async def transitions(self, server_id: UUID) -> list[tuple[str | None, str]]:
        rows = await self.fetch(
            "SELECT from_status, to_status FROM health_transitions WHERE server_id = $1 ORDER BY at", server_id
        )
        return [(row["from_status"], row["to_status"]) for row in rows]


@asynccontextmanager
async def watching(database: Database, engine: PollingEngine, **settings: Any) -> AsyncIterator[Watch]:
    watch = Watch(database, engine, **settings)
    await watch.worker.initialize()
    watch.source.start()
    try:
        yield watch
    finally:
        await watch.source.stop()
        await stop_health_worker(watch.worker)


@pytest.fixture
async def watch(database: Database, engine: PollingEngine) -> AsyncIterator[Watch]:
    async with watching(database, engine) as found:
        yield found


async def test_a_server_that_stops_answering_becomes_unreachable_and_is_seen_again(watch: Watch) -> None:
    async with rogue.server(rogue.healthy()) as agent:
        server_id = await watch.add("web-1", f"http://127.0.0.1:{agent.port}")
        await watch.cycle()
        seen = await watch.row(server_id)
        assert (seen["health_status"], seen["unreachable_since"]) == ("healthy", None)
        assert seen["last_seen_at"] == seen["last_health_check_at"] is not None
        port = agent.port
    await watch.cycle()
    lost = await watch.row(server_id)
    assert lost["health_status"] == "unreachable"
    assert lost["last_seen_at"] == seen["last_seen_at"], "it was not seen since"
    assert lost["unreachable_since"] == lost["last_health_check_at"] > seen["last_health_check_at"]
    await watch.cycle()
    still = await watch.row(server_id)
    assert still["unreachable_since"] == lost["unreachable_since"]
    async with rogue.server(rogue.healthy(), port=port):
        await watch.cycle()
    back = await watch.row(server_id)
    assert (back["health_status"], back["unreachable_since"]) == ("healthy", None)
    assert await watch.transitions(server_id) == [
        (None, "healthy"),
        ("healthy", "unreachable"),
        ("unreachable", "healthy"),
    ]
    checks = await watch.fetch("SELECT status, error_message FROM server_health_checks ORDER BY timestamp")
    assert [row["status"] for row in checks] == ["healthy", "unreachable", "unreachable", "healthy"]
    assert checks[1]["error_message"] == "connection refused"
    assert back["updated_at"] == seen["updated_at"], "updated_at is for people's edits only"


async def test_a_whole_fleet_is_checked_stored_and_counted(watch: Watch, agents: SimulatedFleet) -> None:
    for number in range(20):
        await watch.add(f"s-{number}", agents.url(number))
    with structlog.testing.capture_logs() as logs:
        await watch.cycle()
        await watch.cycle()
    rows = await watch.fetch("SELECT server_id, count(*) AS checks FROM server_health_checks GROUP BY 1")
    assert [row["checks"] for row in rows] == [2] * 20
    stats = watch.worker.get_stats()
    assert (stats["checks_performed"], stats["checks_successful"], stats["checks_failed"]) == (40, 40, 0)
    assert stats["success_rate"] == 100.0
    assert stats["last_run"].endswith("Z")
    lines = [entry["event"] for entry in logs]
    assert lines[0] == "Starting health checks for 20 servers"
    assert lines[1].startswith("Health checks complete: 20 servers checked in 0.")
    assert lines[1].endswith("s (✓20 🔶0 ⚠️0 ❌0)")
    assert not any("alert" in line for line in lines)


async def test_the_log_says_how_many_are_critical_and_unreachable(watch: Watch) -> None:
    async with rogue.server(rogue.healthy()) as good, rogue.server(rogue.status(500)) as bad:
        await watch.add("good", f"http://127.0.0.1:{good.port}")
        await watch.add("bad", f"http://127.0.0.1:{bad.port}")
        await watch.add("gone", "http://127.0.0.1:9")
        with structlog.testing.capture_logs() as logs:
            await watch.cycle()
    assert "(✓1 🔶0 ⚠️1 ❌1)" in logs[1]["event"]
    assert logs[2]["event"] == "Fleet health alert: 1 critical, 1 unreachable servers"
    assert logs[2]["log_level"] == "warning"
    assert (logs[1]["healthy"], logs[1]["critical"], logs[1]["unreachable"]) == (1, 1, 1)
    assert watch.worker.get_stats()["success_rate"] == 66.7


async def test_only_active_servers_are_polled(watch: Watch, agents: SimulatedFleet) -> None:
    ids = [await watch.add(f"s-{number}", agents.url(number)) for number in range(3)]
    await watch.servers.change(DEFAULT_ORGANIZATION, ids[0], {"status": "inactive"})
    await watch.servers.change(DEFAULT_ORGANIZATION, ids[1], {"status": "maintenance"})
    await watch.cycle()
    rows = await watch.fetch("SELECT server_id FROM server_health_checks")
    assert [row["server_id"] for row in rows] == [ids[2]]


async def test_the_longest_unchecked_come_first(watch: Watch, agents: SimulatedFleet) -> None:
    ids = [await watch.add(f"s-{number}", agents.url(number)) for number in range(4)]
    await watch.health.check_now(DEFAULT_ORGANIZATION, ids[2])
    await watch.health.check_now(DEFAULT_ORGANIZATION, ids[0])
    launched: list[UUID] = []
    submit = watch.engine.submit

    def noting(target: Any, path: str, sink: Any) -> None:
        launched.append(target.key)
        submit(target, path, sink)

    watch.engine.submit = noting  # type: ignore[method-assign]
    await watch.cycle()
    assert set(launched[:2]) == {ids[1], ids[3]}, "those never checked come first"
    assert launched[2:] == [ids[2], ids[0]]


@pytest.mark.parametrize("what", ["removed", "deactivated", "changed", "token replaced"])
async def test_a_server_that_changed_during_its_check_gets_no_row(watch: Watch, what: str) -> None:
    async with rogue.server(rogue.on_cue()) as agent:
        server_id = await watch.add("web-1", f"http://127.0.0.1:{agent.port}")
        cycle = asyncio.create_task(watch.cycle())
        await agent.asked.wait()
        if what == "removed":
            await watch.servers.remove(DEFAULT_ORGANIZATION, server_id)
        elif what == "deactivated":
            await watch.servers.change(DEFAULT_ORGANIZATION, server_id, {"status": "inactive"})
        elif what == "changed":
            await watch.servers.change(DEFAULT_ORGANIZATION, server_id, {"description": "moved"})
        else:
            await watch.servers.replace_token(DEFAULT_ORGANIZATION, server_id, {"api_token": "other"})
        agent.cue.set()
        await cycle
    assert await watch.fetch("SELECT 1 FROM server_health_checks") == []
    assert await watch.transitions(server_id) == []
    row = await watch.row(server_id)
    if row is not None:
        assert (row["health_status"], row["last_health_check_at"]) == (None, None)


async def test_servers_added_and_removed_are_noticed_by_the_next_cycle(watch: Watch, agents: SimulatedFleet) -> None:
    await watch.cycle()
    first = await watch.add("first", agents.url(0))
    await _until(lambda: _truth(watch.source._changed))
    await watch.cycle()
    assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 1
    await watch.servers.remove(DEFAULT_ORGANIZATION, first)
    await _until(lambda: _truth(watch.source._changed))
    await watch.cycle()
    assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 1
    assert watch.engine.connections == 0, "the connection to a removed server is not kept"


async def test_results_survive_a_database_that_is_away_in_mid_cycle(
    watch: Watch, agents: SimulatedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await watch.add(f"s-{number}", agents.url(number))
    await watch.cycle()
    away = asyncio.Event()
    tried = asyncio.Event()
    write = health_checks.write

    async def failing(*arguments: Any, **options: Any) -> Any:
        if away.is_set():
            tried.set()
            raise DatabaseUnavailableError("the database is away: simulated")
        return await write(*arguments, **options)

    monkeypatch.setattr(health_checks, "write", failing)
    away.set()
    with structlog.testing.capture_logs() as logs:
        await watch.worker._guarded_cycle(datetime.now(UTC))
        await tried.wait()
        assert watch.worker.get_stats()["results_buffered"] == 20
        assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 20
        away.clear()
        await watch.worker._buffer.settled()
    assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 40
    assert watch.worker.get_stats()["results_dropped"] == 0
    events = [entry["event"] for entry in logs]
    assert any(event.startswith("Health results wait for the database") for event in events)
    assert any(event.startswith("Database is back") for event in events)


TROUBLE = """
CREATE SEQUENCE attempts;
CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF {condition} THEN RAISE EXCEPTION 'trouble' USING ERRCODE = '{code}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER trouble BEFORE INSERT ON server_health_checks FOR EACH {each} EXECUTE FUNCTION trouble();
"""


@pytest.mark.parametrize("code", ["deadlock_detected", "serialization_failure", "query_canceled"])
async def test_a_conflict_in_the_database_costs_no_result(watch: Watch, agents: SimulatedFleet, code: str) -> None:
    ids = [await watch.add(f"s-{number}", agents.url(number)) for number in range(2)]
    async with watch.database.transaction() as connection:
        trouble = TROUBLE.format(condition="nextval('attempts') = 1", code=code, each="STATEMENT")
        await connection.execute(trouble)
    with structlog.testing.capture_logs() as logs:
        await watch.cycle()
    assert any(entry["event"].startswith("Health results wait for the database") for entry in logs)
    assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 2
    assert watch.worker.get_stats()["results_dropped"] == 0
    assert await watch.transitions(ids[0]) == [(None, "healthy")]


async def test_a_result_that_cannot_be_stored_costs_no_other(watch: Watch, agents: SimulatedFleet) -> None:
    ids = [await watch.add(f"s-{number}", agents.url(number)) for number in range(20)]
    async with watch.database.transaction() as connection:
        trouble = TROUBLE.format(condition=f"NEW.server_id = '{ids[7]}'", code="check_violation", each="ROW")
        await connection.execute(trouble)
    with structlog.testing.capture_logs() as logs:
        await watch.cycle()
    rows = await watch.fetch("SELECT server_id FROM server_health_checks")
    assert {row["server_id"] for row in rows} == {*ids} - {ids[7]}
    assert len(rows) == 19
    assert "1 health results could not be stored: trouble" in [entry["event"] for entry in logs]
    assert watch.worker.get_stats()["results_dropped"] == 1
    assert await watch.transitions(ids[7]) == []


async def test_only_who_tries_again_is_told_a_deadlock_in_other_words(watch: Watch) -> None:
    with pytest.raises(DatabaseUnavailableError):
        async with watch.database.transaction(repeatable=True):
            raise asyncpg.DeadlockDetectedError("deadlock detected")
    with pytest.raises(asyncpg.DeadlockDetectedError):
        async with watch.database.transaction():
            raise asyncpg.DeadlockDetectedError("deadlock detected")


async def test_a_batch_stored_twice_is_there_once(watch: Watch) -> None:
    async with rogue.server(rogue.healthy()) as agent:
        server_id = await watch.add("web-1", f"http://127.0.0.1:{agent.port}")
    revision = await watch.revision(server_id)
    check = HealthCheck(server_id, datetime.now(UTC), HealthStatus.HEALTHY, 1.0)
    item = CheckToWrite(check, revision, None)
    await watch.health.record([item])
    await watch.health.record([item])
    await watch.health.record([CheckToWrite(check, revision, HealthStatus.HEALTHY)], repeated=True)
    assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 1
    assert await watch.transitions(server_id) == [(None, "healthy")]


async def test_a_wrong_belief_about_the_stored_health_is_put_right(watch: Watch) -> None:
    async with rogue.server(rogue.healthy()) as agent:
        server_id = await watch.add("web-1", f"http://127.0.0.1:{agent.port}")
    first = HealthCheck(server_id, datetime.now(UTC), HealthStatus.CRITICAL, 1.0, error_message="HTTP 500")
    # The writer believes that critical is stored already; it is not.
    written = await watch.health.record([CheckToWrite(first, await watch.revision(server_id), HealthStatus.CRITICAL)])
    assert written.transitions == [(server_id, None, HealthStatus.CRITICAL)]
    assert (await watch.row(server_id))["health_status"] == "critical"


async def test_several_results_of_one_server_in_one_batch_make_every_transition(watch: Watch) -> None:
    async with rogue.server(rogue.healthy()) as agent:
        server_id = await watch.add("web-1", f"http://127.0.0.1:{agent.port}")
    revision = await watch.revision(server_id)
    batch = [
        CheckToWrite(HealthCheck(server_id, datetime.fromtimestamp(moment, UTC), status), revision, None)
        for moment, status in enumerate(
            [HealthStatus.HEALTHY, HealthStatus.CRITICAL, HealthStatus.HEALTHY], 1_700_000_000
        )
    ]
    await watch.health.record(batch)
    assert await watch.transitions(server_id) == [
        (None, "healthy"),
        ("healthy", "critical"),
        ("critical", "healthy"),
    ]
    assert (await watch.row(server_id))["last_health_check_at"] == batch[-1].check.timestamp


async def test_a_result_that_waited_does_not_undo_a_newer_verdict(watch: Watch) -> None:
    async with rogue.server(rogue.healthy()) as agent:
        server_id = await watch.add("web-1", f"http://127.0.0.1:{agent.port}")
    revision = await watch.revision(server_id)
    newer = HealthCheck(server_id, datetime.fromtimestamp(1_700_000_060, UTC), HealthStatus.HEALTHY, 1.0)
    older = HealthCheck(server_id, datetime.fromtimestamp(1_700_000_000, UTC), HealthStatus.UNREACHABLE)
    older_good = HealthCheck(server_id, datetime.fromtimestamp(1_700_000_010, UTC), HealthStatus.HEALTHY, 1.0)
    await watch.health.record([CheckToWrite(newer, revision, None)])
    written = await watch.health.record([CheckToWrite(older, revision, HealthStatus.HEALTHY)])
    assert written.late == {server_id}
    await watch.health.record([CheckToWrite(older_good, revision, HealthStatus.HEALTHY)])

    row = await watch.row(server_id)
    assert (row["health_status"], row["last_health_check_at"]) == ("healthy", newer.timestamp)
    assert (row["unreachable_since"], row["last_seen_at"]) == (None, newer.timestamp)
    assert await watch.transitions(server_id) == [(None, "healthy")]
    assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 3


async def test_a_suspect_cycle_is_recorded_and_changes_no_health(watch: Watch, agents: SimulatedFleet) -> None:
    ids = [await watch.add(f"s-{number}", agents.url(number)) for number in range(12)]
    await watch.cycle()
    await watch.servers.change(DEFAULT_ORGANIZATION, ids[0], {"api_url": "http://127.200.0.1:9"})
    for number, server_id in enumerate(ids):
        await watch.servers.change(DEFAULT_ORGANIZATION, server_id, {"api_url": f"http://127.{200 + number % 2}.0.1:9"})
    watch.source._note_change()
    with structlog.testing.capture_logs() as logs:
        await watch.cycle()
    rows = await watch.fetch("SELECT health_status, last_health_check_at FROM managed_servers")
    assert {row["health_status"] for row in rows} == {"healthy"}
    checks = await watch.fetch("SELECT error_details FROM server_health_checks WHERE status = 'unreachable'")
    assert len(checks) == 12
    assert all(row["error_details"]["suspect"] is True for row in checks)
    assert any(entry["event"].startswith("Health cycle suspect") for entry in logs)
    assert not any("alert" in entry["event"] for entry in logs)
    assert watch.worker.get_stats()["cycles_suspect"] == 1


async def test_one_answer_is_enough_to_believe_the_others_silence(watch: Watch) -> None:
    async with rogue.server(rogue.healthy()) as agent:
        await watch.add("alive", f"http://127.0.0.1:{agent.port}")
        for number in range(11):
            await watch.add(f"gone-{number}", f"http://127.{200 + number % 2}.0.1:9")
        await watch.cycle()
    rows = await watch.fetch("SELECT health_status, count(*) AS servers FROM managed_servers GROUP BY 1 ORDER BY 1")
    assert [(row["health_status"], row["servers"]) for row in rows] == [("healthy", 1), ("unreachable", 11)]
    assert watch.worker.get_stats()["cycles_suspect"] == 0


@pytest.mark.parametrize(("servers", "networks"), [(9, 2), (12, 1)])
async def test_a_small_fleet_or_one_network_is_believed(watch: Watch, servers: int, networks: int) -> None:
    for number in range(servers):
        await watch.add(f"gone-{number}", f"http://127.{200 + number % networks}.0.1:9")
    await watch.cycle()
    rows = await watch.fetch("SELECT DISTINCT health_status FROM managed_servers")
    assert [row["health_status"] for row in rows] == ["unreachable"]


async def test_a_hanging_server_holds_up_nobody(watch: Watch, agents: SimulatedFleet) -> None:
    async with rogue.server(rogue.hang_before_headers()) as black_hole:
        await watch.add("hanging", f"http://127.0.0.1:{black_hole.port}")
        for number in range(19):
            await watch.add(f"s-{number}", agents.url(number))
        cycle = asyncio.create_task(watch.cycle())
        await black_hole.asked.wait()

        async def stored() -> bool:
            return len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 19

        await _until(stored)
        assert not cycle.done(), "the others are stored while it still hangs"
        await cycle
    row = (await watch.fetch("SELECT * FROM server_health_checks WHERE status = 'unreachable'"))[0]
    assert row["error_message"] == "timed out after 2 s"


async def test_cycles_keep_to_the_schedule_and_one_that_still_runs_is_skipped_over(
    database: Database, engine: PollingEngine
) -> None:
    async with watching(database, engine, interval=0.2) as watch, rogue.server(rogue.on_cue()) as agent:
        await watch.add("slow", f"http://127.0.0.1:{agent.port}")
        await watch.worker.start()
        await agent.asked.wait()

        async def skipped() -> bool:
            return bool(watch.worker.get_stats()["cycles_skipped"] >= 2)

        await _until(skipped)
        assert agent.requests == 1
        agent.cue.set()

        async def went_on() -> bool:
            return bool(watch.worker.get_stats()["cycles"] >= 2)

        await _until(went_on)


async def test_a_jump_of_the_wall_clock_does_not_stop_the_cycles(
    database: Database, engine: PollingEngine, agents: SimulatedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opsfleet.polling import engine as engine_module

    offset = 0.0
    monkeypatch.setattr(engine_module, "time", lambda: time.time() + offset)
    async with watching(database, engine, interval=0.1) as watch:
        server_id = await watch.add("web-1", agents.url(0))
        await watch.worker.start()
        for jump in (0.0, -86_400.0, 86_400.0):
            offset = jump
            before = watch.worker.get_stats()["cycles"]

            async def went_on(before: int = before) -> bool:
                return bool(watch.worker.get_stats()["cycles"] >= before + 2)

            await _until(went_on)
        await watch.worker.stop()
        await watch.worker._buffer.settled()
        row = await watch.row(server_id)
        assert row["health_status"] == "healthy"
        checks = await watch.fetch("SELECT count(*) AS n FROM server_health_checks")
        assert checks[0]["n"] == watch.worker.get_stats()["checks_successful"]


async def test_a_cycle_that_breaks_is_counted_and_the_next_one_works(
    watch: Watch, agents: SimulatedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watch.add("web-1", agents.url(0))

    async def broken() -> Any:
        raise RuntimeError("no such thing")

    with monkeypatch.context() as patched, structlog.testing.capture_logs() as logs:
        patched.setattr(watch.source, "current", broken)
        await watch.cycle()
    assert watch.worker.get_stats()["cycles_failed"] == 1
    assert any("Health cycle failed: no such thing" in entry["event"] for entry in logs)
    await watch.cycle()
    assert watch.worker.get_stats()["checks_successful"] == 1


async def test_a_token_of_another_key_is_a_failed_check_and_does_not_stop_the_others(
    watch: Watch, agents: SimulatedFleet
) -> None:
    await watch.add("good", agents.url(0))
    other = await watch.add("other-key", agents.url(1))
    await watch.cycle()
    sealed = Vault(bytes(32)).encrypt("simulated-token", context=other.bytes)
    change = "UPDATE managed_servers SET api_token_ciphertext = $1, updated_at = now() WHERE id = $2"
    await watch.fetch(change, sealed, other)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            watch.worker._source._note_change()
            await watch.cycle()
    assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 4
    stats = watch.worker.get_stats()
    assert (stats["checks_performed"], stats["checks_successful"], stats["checks_failed"]) == (6, 4, 2)
    assert [entry["broken"] for entry in logs if "complete" in entry["event"]] == [1, 1]
    told = "Cannot poll other-key: the stored secret was encrypted with another key than FLEET_SECRET_KEY"
    assert [entry["event"] for entry in logs].count(told) == 1, "once is enough while nothing changes"
    assert watch.engine.connections == 1, "the connection to it is not kept"
    with pytest.raises(CheckBrokeError, match="other-key cannot be checked: the stored secret was encrypted with"):
        await watch.health.check_now(DEFAULT_ORGANIZATION, other)

    with structlog.testing.capture_logs() as logs:
        await watch.fetch("UPDATE managed_servers SET description = 'moved', updated_at = now() WHERE id = $1", other)
        watch.worker._source._note_change()
        await watch.cycle()
    assert [entry["event"] for entry in logs].count(told) == 1, "it was changed, and still cannot be polled"
    await watch.servers.replace_token(DEFAULT_ORGANIZATION, other, {"api_token": "simulated-token"})
    watch.worker._source._note_change()
    await watch.cycle()
    assert watch.worker.get_stats()["checks_failed"] == 3
    assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 7


async def test_a_fleet_of_which_no_token_can_be_read_counts_as_failed(watch: Watch, agents: SimulatedFleet) -> None:
    await watch.add("other-key", agents.url(0))
    await watch.fetch("UPDATE managed_servers SET api_token_ciphertext = 'damaged'")
    await watch.cycle()
    stats = watch.worker.get_stats()
    assert (stats["checks_performed"], stats["checks_failed"], stats["success_rate"]) == (1, 1, 0)


async def test_a_worker_that_cannot_start_is_logged_and_does_not_raise(
    database: Database, engine: PollingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(database, engine)

    async def broken() -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(watch.worker, "initialize", broken)
    with structlog.testing.capture_logs() as logs:
        assert await start_health_worker(watch.worker) is False
    assert logs[0]["event"] == "Fleet health worker cannot start: no luck"


async def test_stopping_in_mid_cycle_stores_what_has_arrived(
    database: Database, engine: PollingEngine, agents: SimulatedFleet
) -> None:
    async with rogue.server(rogue.hang_before_headers()) as black_hole:
        watch = Watch(database, engine)
        await watch.add("hanging", f"http://127.0.0.1:{black_hole.port}")
        for number in range(10):
            await watch.add(f"s-{number}", agents.url(number))
        await start_health_worker(watch.worker)

        async def answered() -> bool:
            return bool(watch.worker.get_stats()["checks_successful"] == 10)

        await _until(answered)
        await stop_health_worker(watch.worker)
        assert len(await watch.fetch("SELECT 1 FROM server_health_checks")) == 10
        assert watch.worker.get_stats()["running"] is False


async def test_stopping_while_nobody_has_answered_stores_all_that_was_counted_and_judges_nobody(
    database: Database, engine: PollingEngine
) -> None:
    async with rogue.server(rogue.on_cue()) as late:
        watch = Watch(database, engine)
        await watch.add("late", f"http://127.0.0.1:{late.port}")
        for number in range(11):
            await watch.add(f"gone-{number}", f"http://127.{200 + number % 2}.0.1:9")
        await start_health_worker(watch.worker)

        async def failed() -> bool:
            return bool(watch.worker.get_stats()["checks_failed"] == 11)

        await _until(failed)
        await late.asked.wait()
        await stop_health_worker(watch.worker)
        late.cue.set()

        async def over() -> bool:
            return engine.in_flight == 0

        await _until(over)
    checks = await watch.fetch("SELECT status, error_details FROM server_health_checks")
    assert [row["status"] for row in checks] == ["unreachable"] * 11
    assert all(row["error_details"]["interrupted"] is True for row in checks)
    assert watch.worker.get_stats()["checks_performed"] == 11, "the answer that came too late is not counted"
    assert watch.worker.get_stats()["results_buffered"] == 0
    servers = await watch.fetch("SELECT health_status FROM managed_servers")
    assert {row["health_status"] for row in servers} == {None}


async def test_stored_rows_match_what_a_stranger_with_sql_sees_in_the_views(
    watch: Watch, agents: SimulatedFleet
) -> None:
    server_id = await watch.add("web-1", agents.url(0), region="eu")
    await watch.cycle()
    overview = (await watch.fetch("SELECT * FROM v_server_health_overview"))[0]
    assert (overview["server_id"], overview["health_status"], overview["region"]) == (server_id, "healthy", "eu")
    assert overview["response_time_ms"] > 0
    summary = (await watch.fetch("SELECT * FROM v_fleet_summary"))[0]
    assert (summary["status"], summary["health_status"], summary["servers"]) == ("active", "healthy", 1)


async def test_a_check_of_a_server_nobody_knows_leaves_no_trace(watch: Watch) -> None:
    stray = HealthCheck(new_id(), datetime.now(UTC), HealthStatus.HEALTHY)
    written = await watch.health.record([CheckToWrite(stray, 1_700_000_000_000_000, HealthStatus.HEALTHY)])
    assert written.stale == {stray.server_id}
    assert await watch.fetch("SELECT 1 FROM server_health_checks") == []


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def _truth(value: bool) -> bool:
    return value
