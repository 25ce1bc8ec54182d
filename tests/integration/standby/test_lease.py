"""The lease of polling in the database: terms, the fence, and flushes that hang."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from tests.integration.standby.conftest import Shared

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.domain.health import HealthCheck, HealthStatus
from opsfleet.domain.ids import new_id
from opsfleet.polling import PollingEngine
from opsfleet.services.health import HealthService
from opsfleet.services.leases import Lease
from opsfleet.services.workers import WorkerService
from opsfleet.store import leases, targets
from opsfleet.store.database import Database
from opsfleet.store.health_checks import CheckToWrite
from opsfleet.store.leases import LeaseLostError, LockSession
from opsfleet.vault import Vault

ONE, OTHER = new_id(), new_id()


def nothing() -> None:
    pass


@pytest.fixture
async def session(database: Database) -> AsyncIterator[LockSession]:
    """A session that holds the lock."""
    found = await LockSession.open(database, nothing)
    assert await found.try_lock()
    yield found
    found.close()


async def confirmed(database: Database, term: int) -> bool:
    try:
        async with database.transaction() as connection:
            await leases.confirm(connection, term)
    except LeaseLostError:
        return False
    return True


async def test_only_the_newest_term_may_store(database: Database, session: LockSession) -> None:
    first = await session.take(ONE, None)
    assert first.in_order, "nobody was before it"
    assert await confirmed(database, first.term)
    second = await session.take(OTHER, None)
    assert (second.term, second.in_order) == (first.term + 1, False)
    assert not await confirmed(database, first.term)
    assert await confirmed(database, second.term)
    assert not await confirmed(database, second.term + 1)


async def test_who_gets_the_lock_again_goes_on_unless_somebody_had_it_meanwhile(
    database: Database, session: LockSession
) -> None:
    mine = await session.take(ONE, None)
    assert await session.take(ONE, mine.term) == mine
    theirs = await session.take(OTHER, None)
    again = await session.take(ONE, mine.term)
    assert again.term == theirs.term + 1


async def test_who_gives_it_back_lets_the_next_begin_at_once(database: Database, session: LockSession) -> None:
    mine = await session.take(ONE, None)
    other = await LockSession.open(database, nothing)
    assert not await other.try_lock()
    await session.give_back(mine.term)
    assert await other.try_lock()
    theirs = await other.take(OTHER, None)
    assert (theirs.term, theirs.in_order) == (mine.term + 1, True)
    other.close()


async def test_a_new_term_waits_for_the_flush_of_the_old_one(database: Database, session: LockSession) -> None:
    mine = await session.take(ONE, None)
    async with database.transaction() as connection:
        await leases.confirm(connection, mine.term)
        taking = asyncio.create_task(session.take(OTHER, None))
        async with database.connection() as watching:
            while not await watching.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        assert not taking.done()
    assert (await taking).term == mine.term + 1


async def test_a_flush_that_hangs_is_ended_and_leaves_nothing(
    database: Database, session: LockSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_FLUSHES_SECONDS", 1)
    mine = await session.take(ONE, None)
    taken = asyncio.Event()

    async def hang() -> None:
        async with database.transaction() as connection:
            await leases.confirm(connection, mine.term)
            await connection.execute("INSERT INTO worker_leases (name, term) VALUES ('a trace', 0)")
            assert (await session.take(OTHER, None)).term == mine.term + 1
            taken.set()

    with pytest.raises(DatabaseUnavailableError):
        await hang()
    assert taken.is_set()
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM worker_leases WHERE name = 'a trace'") == 0


async def test_results_of_an_earlier_term_are_refused_and_the_lease_knows(
    shared: Shared, engine: PollingEngine, session: LockSession
) -> None:
    health = HealthService(shared.database, engine, Vault(bytes(32)))
    server_id: UUID = await shared.value("SELECT id FROM managed_servers LIMIT 1")
    async with shared.database.connection() as connection:
        (row,) = await targets.select(connection, [server_id])
        now = await connection.fetchval("SELECT clock_timestamp()")
    batch = [CheckToWrite(HealthCheck(server_id, now, HealthStatus.HEALTHY, 1.0), row.revision, None)]
    lease = Lease((await session.take(ONE, None)).term)
    await session.take(OTHER, None)
    with pytest.raises(LeaseLostError, match="another worker has taken over"):
        await health.record(batch, lease=lease)
    assert lease.lost.is_set()
    assert not lease.is_certain
    assert await shared.value("SELECT count(*) FROM server_health_checks") == 0
    await health.record(batch)
    assert await shared.value("SELECT count(*) FROM server_health_checks") == 1, "a check on request needs no lease"


async def test_one_that_was_deposed_unawares_is_not_shown_as_active(database: Database, session: LockSession) -> None:
    mine, theirs = WorkerService(database, "worker"), WorkerService(database, "worker")
    await session.take(mine.instance_id, None)
    await mine.publish({"health_worker": {"running": True, "interval_seconds": 30}}, "active")
    assert (await mine.status()).kinds["health_worker"]["running"] is True
    await session.take(theirs.instance_id, None)
    assert (await mine.status()).instances == [], "whoever was active says anew what it is"
    await mine.publish({"health_worker": {"running": True, "interval_seconds": 30}}, "active")
    assert [instance.state for instance in (await mine.status()).instances] == ["standby"]
    assert (await mine.status()).kinds == {}


async def test_a_lease_lets_nothing_be_launched_once_it_is_old_unless_nobody_else_is_there() -> None:
    lease = Lease(1)
    assert not lease.is_certain
    now = asyncio.get_running_loop().time()
    lease.renew(now, alone=False)
    assert lease.is_certain
    lease.renew(now - 3_600, alone=False)
    assert not lease.is_certain
    waiting = asyncio.create_task(lease.certain())
    await asyncio.sleep(0)
    assert not waiting.done()
    lease.note(alone=True)
    await waiting
    lease.lost.set()
    assert not lease.is_certain
