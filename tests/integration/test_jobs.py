"""Jobs run on their schedule, in one process at a time, whatever becomes of processes and connections."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from opsfleet.domain.metrics import Period
from opsfleet.store.database import Database
from opsfleet.workers import jobs
from opsfleet.workers.jobs import Job, JobRunner
from tests.integration.metrics.minutes import History
from tests.support.product import running_product

EVERY_SECOND = "* * * * * *"


class Work:
    """A job that tells of its runs, and lasts until it is allowed to end or told to stop."""

    def __init__(self) -> None:
        self.started = asyncio.Semaphore(0)
        self.allowed = asyncio.Event()
        self.running = 0
        self.most = 0
        self.ended = 0
        self.errors: list[Exception] = []

    async def run(self, should_stop: Callable[[], bool]) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.release()
        try:
            if self.errors:
                raise self.errors.pop()
            while not self.allowed.is_set() and not should_stop():
                await asyncio.sleep(0.01)
        finally:
            self.running -= 1
        self.ended += 1

    async def start(self, database: Database) -> JobRunner:
        runner = JobRunner(database, [Job("work", EVERY_SECOND, self.run)])
        runner.start()
        return runner

    async def has_started(self, times: int = 1) -> None:
        async with asyncio.timeout(30):
            for _ in range(times):
                await self.started.acquire()


async def test_of_several_processes_one_runs_a_job_at_a_time(database: Database) -> None:
    other = Database(database.dsn)
    work = Work()
    runners = [await work.start(found) for found in (database, other)]
    await work.has_started()
    async with asyncio.timeout(10):
        while await _polls(database) < 2:
            await asyncio.sleep(0.05)
    assert work.most == 1
    work.allowed.set()
    await work.has_started(2)
    for runner in runners:
        await runner.stop()
    assert (work.most, work.running) == (1, 0)
    await other.close()


async def _polls(database: Database) -> int:
    """Return how many schedulers have looked for work."""
    async with database.connection() as connection:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%picked_jobs%' AND datname = current_database()"
        )
    return found


async def test_a_stop_lets_the_run_end_and_leaves_nothing_behind(database: Database) -> None:
    work = Work()
    runner = await work.start(database)
    await work.has_started()
    await runner.stop()
    assert (work.running, work.ended) == (0, 1)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT status FROM pgqueuer_schedules") == "queued"


async def test_a_run_that_does_not_end_is_cut_off(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "STOP_SECONDS", 0.1)
    begun = asyncio.Event()
    cut_off = asyncio.Event()

    async def endless(_: Callable[[], bool]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut_off.set()

    runner = JobRunner(database, [Job("work", EVERY_SECOND, endless)])
    runner.start()
    async with asyncio.timeout(30):
        await begun.wait()
        await runner.stop()
    assert cut_off.is_set()


async def test_a_failure_is_logged_and_the_next_run_comes(database: Database) -> None:
    work = Work()
    work.allowed.set()
    work.errors.append(ValueError("broken"))
    runner = await work.start(database)
    await work.has_started(2)
    await runner.stop()
    assert work.ended >= 1


async def test_the_scheduler_survives_the_loss_of_its_connection(database: Database) -> None:
    work = Work()
    work.allowed.set()
    runner = await work.start(database)
    await work.has_started()
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()
    while not work.started.locked():
        await work.started.acquire()
    async with database.connection() as connection:
        # Should the run have been under way, what it left behind is made to look old.
        await connection.execute("UPDATE pgqueuer_schedules SET heartbeat = now() - interval '1 minute'")
    await work.has_started(2)
    await runner.stop()


async def test_a_run_of_a_process_that_died_is_taken_up_by_the_next(database: Database) -> None:
    work = Work()
    work.allowed.set()
    first = await work.start(database)
    await work.has_started()
    await first.stop()
    async with database.connection() as connection:
        # As a process leaves it that was killed a while ago.
        await connection.execute(
            "UPDATE pgqueuer_schedules SET status = 'picked', heartbeat = now() - interval '29 seconds'"
        )
    successor = Work()
    successor.allowed.set()
    second = await successor.start(database)
    await successor.has_started()
    await second.stop()
    assert successor.ended >= 1


async def test_the_product_rolls_up_what_is_due(dsn: str, database: Database) -> None:
    history = History(database)
    hour_ago = Period.HOUR.start_of(datetime.now(UTC) - timedelta(hours=2))
    await history.prepare(hour_ago)
    server_id = await history.add_server("web-1")
    async with running_product(dsn, role="worker"):
        await history.add([{"server_id": server_id, "timestamp": hour_ago, "llm_requests": 3}])
        async with asyncio.timeout(30):
            while not await history.rows(Period.HOUR, server_id):
                await asyncio.sleep(0.05)
    assert (await history.rows(Period.HOUR, server_id))[0]["llm_requests"] == 3
