"""Of several worker processes on one database exactly one polls, and another one takes over when it cannot."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from tests.integration.standby.conftest import Shared
from tests.support.product import running_product
from tests.support.relay import Relay
from tests.support.serving import Serving, serving

POLLS = "This worker polls"
STANDS_BY = "This worker stands by"
STOPS = "others stand by: this worker stops polling"
DEPOSED = "Another worker has taken over"
CYCLE = "Starting health checks"
STATUS = "/api/v1/fleet/workers/status"

CHECKED_BETWEEN = "SELECT count(*) FROM server_health_checks WHERE timestamp > $1 AND timestamp < $2"


@asynccontextmanager
async def a_pair(shared: Shared, dsn: str | None = None) -> AsyncIterator[tuple[Serving, Serving]]:
    """One worker that polls, at `dsn` if that is another way to the database, and one that it knows to stand by."""
    async with serving(dsn or shared.dsn) as first:
        await first.says(POLLS)
        await shared.grow()
        async with serving(shared.dsn) as second:
            await second.says(STANDS_BY)
            await shared.until("SELECT count(*) = 1 FROM fleet_workers WHERE state = 'standby'")
            # The first looks once a second: two more cycles later it has seen the other.
            await first.says(CYCLE, len(first.said(CYCLE)) + 2)
            yield first, second


async def test_of_two_that_start_together_one_polls_and_the_other_is_ready_to(shared: Shared) -> None:
    async with (
        running_product(shared.dsn, role="api") as api,
        serving(shared.dsn) as one,
        serving(shared.dsn, role="all") as other,
    ):
        waiting = [asyncio.create_task(process.says(STANDS_BY)) for process in (one, other)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        idle, busy = (one, other) if waiting[0].done() else (other, one)
        for task in waiting:
            task.cancel()
        await busy.says(POLLS)
        await busy.says(CYCLE, 3)
        assert not idle.said(CYCLE), "it stands by and polls nothing"
        assert not idle.said("Starting metrics")
        found = await api.until(STATUS, lambda body: [row["state"] for row in body["instances"]].count("active") == 1)
        states = {row["pid"]: row["state"] for row in found["instances"]}
        assert states[busy.process.pid] == "active"
        assert states[idle.process.pid] == "standby"
        assert sorted(states.values()) == ["active", "none", "standby"]
        assert found["health_worker"]["running"] is True
        assert [await process.status_of("/readyz") for process in (busy, idle)] == [200, 200]


async def test_the_death_of_the_one_that_polls_costs_seconds_and_no_byte(shared: Shared) -> None:
    async with a_pair(shared) as (first, second):
        term, _ = await shared.lease()
        first.signal(signal.SIGKILL)
        await first.ends()
        died = datetime.now(UTC)
        took_over = await second.says(POLLS)
        assert (await shared.lease())[0] == term + 1
        await shared.checks_after(took_over, 20)
        await shared.settle()
        assert not await shared.value(CHECKED_BETWEEN, died, took_over), "nobody polled in between"
        assert [row["state"] for row in await shared.fetch("SELECT state FROM fleet_workers")] == ["active"]


async def test_one_that_stops_in_good_order_hands_over_at_once(shared: Shared) -> None:
    async with a_pair(shared) as (first, second):
        first.signal(signal.SIGTERM)
        assert await first.ends() == -signal.SIGTERM, "as uvicorn ends when it has stopped in good order"
        took_over = await second.says(POLLS)
        assert not second.said("certainly stopped"), "there was nothing to wait for"
        assert not first.said("not written")
        await shared.checks_after(took_over, 20)
        await shared.settle()


async def test_one_that_is_cut_off_stops_before_the_other_stores(shared: Shared) -> None:
    async with Relay(shared.dsn) as relay, a_pair(shared, relay.dsn) as (first, second):
        term, _ = await shared.lease()
        relay.freeze()
        stopped = await first.says(STOPS)
        took_over = await second.says(POLLS)
        assert stopped < took_over
        assert (await shared.lease())[0] == term + 1
        cycles = len(first.said(CYCLE))
        await second.says(CYCLE, 2)
        await relay.cut()
        relay.mend()
        await first.says(DEPOSED)
        await first.says(STANDS_BY)
        await second.says(CYCLE, 5)
        assert len(first.said(CYCLE)) == cycles, "it polled no more"
        assert not await shared.value(CHECKED_BETWEEN, stopped, took_over)
        await _nothing_of_the_first_is_stored(shared, second, took_over)
        await shared.settle()
        await shared.until("SELECT array_agg(state ORDER BY state) = '{active,standby}' FROM fleet_workers")


async def test_one_that_wakes_up_after_it_was_given_up_stores_nothing(shared: Shared) -> None:
    async with a_pair(shared) as (first, second):
        first.signal(signal.SIGSTOP)
        # PostgreSQL ends the session of the lock by itself; the other sessions are ended here.
        await shared.value(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'opsfleet lease' "
            "AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
        )
        took_over = await second.says(POLLS)
        cycles = len(first.said(CYCLE))
        await shared.checks_after(took_over, 20)
        first.signal(signal.SIGCONT)
        await first.says(STANDS_BY)
        await second.says(CYCLE, len(second.said(CYCLE)) + 2)
        assert len(first.said(CYCLE)) == cycles
        await _nothing_of_the_first_is_stored(shared, second, took_over)
        await shared.settle()


async def test_one_that_hangs_loses_the_lock_without_anybodys_help(shared: Shared) -> None:
    async with a_pair(shared) as (first, second):
        first.signal(signal.SIGSTOP)
        await shared.checks_after(await second.says(POLLS), 20)
        first.signal(signal.SIGCONT)
        await first.says(STANDS_BY)
        await shared.settle()


async def test_one_alone_polls_on_while_the_database_is_away_and_stores_it_afterwards(shared: Shared) -> None:
    async with Relay(shared.dsn) as relay, serving(relay.dsn) as only:
        await only.says(POLLS)
        await shared.grow()
        lease = await shared.lease()
        await relay.cut()
        away = await only.says("this worker goes on polling")
        await only.says(CYCLE, len(only.said(CYCLE)) + 3)
        last = datetime.now(UTC)
        stored = await shared.value("SELECT count(*) FROM server_health_checks")
        relay.mend()
        await only.says(POLLS, 2)
        await shared.settle()
        checked = await shared.value(CHECKED_BETWEEN, away, last)
        assert checked >= 40
        assert await shared.value("SELECT count(*) FROM server_health_checks") > stored + 40
        assert await shared.lease() == lease, "nobody else had it: the term goes on"
        assert not only.said("results dropped")
        assert not only.said("could not be stored")


async def test_one_alone_that_was_replaced_unawares_has_its_results_refused(shared: Shared) -> None:
    async with Relay(shared.dsn) as relay, serving(relay.dsn) as first:
        await first.says(POLLS)
        await shared.grow()
        await relay.cut()
        await first.says("this worker goes on polling")
        async with serving(shared.dsn) as second:
            took_over = await second.says(POLLS)
            await shared.checks_after(took_over, 20)
            await first.says(CYCLE, len(first.said(CYCLE)) + 2)
            relay.mend()
            await first.says(DEPOSED)
            await first.says(STANDS_BY)
            await second.says(CYCLE, len(second.said(CYCLE)) + 2)
            await _nothing_of_the_first_is_stored(shared, second, took_over)
            await shared.settle()
            given_up = first.said("gave up") + first.said("could not be stored: another worker")
            assert sum(event["results"] for event in given_up) > 0


async def _nothing_of_the_first_is_stored(shared: Shared, second: Serving, since: Any) -> None:
    """Each cycle of the one that polls checks each server once: one check more would be the other's."""
    cycles = len(second.said(CYCLE))
    most = await shared.value(
        "SELECT max(checks) FROM (SELECT count(*) AS checks FROM server_health_checks WHERE timestamp > $1 "
        "GROUP BY server_id) AS each",
        since,
    )
    assert most <= cycles
