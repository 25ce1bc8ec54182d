"""Minutes become five minutes, quarters, hours and days, and sums of the fleet; nothing is lost or counted twice."""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.metrics.minutes import DAY, LATER, LATEST, MINUTE, PERCENTAGES, SUMS, History
from tests.integration.test_schema import nodes

from opsfleet.domain.ids import new_id
from opsfleet.domain.metrics import Period
from opsfleet.domain.partitions import Month
from opsfleet.domain.rollups import GRACE, Note
from opsfleet.store import metrics, rollups
from opsfleet.store.database import Database

COARSE = tuple(period for period in Period if period is not Period.MINUTE)
LAST_HOUR = DAY + timedelta(hours=23)


@pytest.fixture
async def history(database: Database) -> AsyncIterator[History]:
    """A registry without servers, and room for the last month of a leap winter."""
    found = History(database)
    await found.prepare()
    return found


async def test_an_hour_of_minutes_becomes_coarser_rows(history: History) -> None:
    server_id = await history.add_server("web-1")
    await history.add(
        [
            {
                "server_id": server_id,
                "timestamp": LAST_HOUR + number * MINUTE,
                "cpu_percent": float(number),
                "memory_percent": 50.0,
                "network_rx_bytes": 1_000 + number,
                "llm_requests": 1,
                "llm_cost_usd": Decimal("0.000001"),
                "active_services": 60 - number,
                "active_users": number,
            }
            for number in range(60)
        ]
    )
    await history.roll_up()
    found = {period: await history.rows(period, server_id) for period in COARSE}
    assert [len(found[period]) for period in COARSE] == [12, 4, 1, 1]
    first = found[Period.FIVE_MINUTES][0]
    assert (first["timestamp"], first["cpu_percent"], first["cpu_percent_max"]) == (LAST_HOUR, 2, 4)
    assert (first["active_services"], first["active_users"], first["sample_count"]) == (56, 4, 5)
    quarter = found[Period.QUARTER][-1]
    assert (quarter["timestamp"], quarter["cpu_percent"], quarter["cpu_percent_max"]) == (
        LAST_HOUR + timedelta(minutes=45),
        52,
        59,
    )
    for period, start in ((Period.HOUR, LAST_HOUR), (Period.DAY, DAY)):
        (row,) = found[period]
        assert row["timestamp"] == start
        assert (row["cpu_percent"], row["cpu_percent_max"], row["memory_percent"]) == (29.5, 59, 50)
        assert row["network_rx_bytes"] == 60 * 1_000 + sum(range(60))
        assert (row["llm_requests"], row["llm_cost_usd"], row["sample_count"]) == (60, Decimal("0.000060"), 60)
        assert (row["active_services"], row["active_users"]) == (1, 59)
        assert (row["network_tx_bytes"], row["disk_percent"], row["total_users"]) == (None, None, None)
    assert await history.noted() == []


async def test_what_is_unknown_counts_for_nothing(history: History) -> None:
    server_id = await history.add_server("web-1")
    await history.add(
        [
            {"server_id": server_id, "timestamp": DAY, "cpu_percent": 10.0, "total_users": 7, "network_rx_bytes": 5},
            {"server_id": server_id, "timestamp": DAY + MINUTE, "total_users": 9, "sample_count": 30},
            {
                "server_id": server_id,
                "timestamp": DAY + 6 * MINUTE,
                "cpu_percent": 40.0,
                "cpu_percent_max": 90.0,
                "sample_count": 2,
                "active_services": 0,
            },
            {"server_id": server_id, "timestamp": DAY + 7 * MINUTE},
        ]
    )
    await history.roll_up()
    for period in (Period.QUARTER, Period.HOUR, Period.DAY):
        (row,) = await history.rows(period, server_id)
        assert row["cpu_percent_max"] == 90
        assert (row["total_users"], row["active_services"], row["failed_services"]) == (9, 0, None)
        assert (row["network_rx_bytes"], row["llm_cost_usd"], row["sample_count"]) == (5, None, 34)
    first, second = await history.rows(Period.FIVE_MINUTES, server_id)
    assert (first["cpu_percent"], first["cpu_percent_max"]) == (10, 10)
    assert (second["cpu_percent"], second["cpu_percent_max"]) == (40, 90)


async def test_averages_are_weighted_by_samples(history: History) -> None:
    server_id = await history.add_server("web-1")
    await history.add(
        [
            {"server_id": server_id, "timestamp": DAY, "cpu_percent": 10.0, "sample_count": 1},
            {"server_id": server_id, "timestamp": DAY + MINUTE, "cpu_percent": 40.0, "sample_count": 2},
        ]
    )
    await history.roll_up()
    assert {(await history.rows(period, server_id))[0]["cpu_percent"] for period in COARSE} == {30}


async def test_increases_beyond_all_bounds_do_not_stop_the_others(history: History) -> None:
    broken, good = await history.add_server("broken"), await history.add_server("good")
    await history.add(
        [
            {"server_id": server_id, "timestamp": DAY + number * MINUTE, "network_rx_bytes": value}
            for number in range(3)
            for server_id, value in ((broken, 2**63 - 1), (good, 1))
        ]
    )
    await history.roll_up()
    for period in COARSE:
        totals = await history.totals(period)
        assert (totals[broken][0], totals[good][0]) == (2**63 - 1, 3)


async def test_rolling_up_twice_changes_nothing(history: History) -> None:
    for number in range(5):
        await history.add_server(f"server-{number}", f"region-{number % 2}")
    await history.add_many(LAST_HOUR, 60)
    noted = await history.noted()
    await history.roll_up()
    before = await history.everything()
    assert await history.roll_up() == 0
    async with history.database.connection() as connection:
        await connection.executemany("INSERT INTO metrics_rollups_due VALUES ($1, $2)", noted)
    assert await history.roll_up() > len(noted)
    assert await history.everything() == before


async def test_a_late_row_is_taken_in_up_to_the_day(history: History) -> None:
    server_id = await history.add_server("web-1")
    await history.add([{"server_id": server_id, "timestamp": LAST_HOUR, "llm_requests": 1, "active_users": 1}])
    await history.roll_up()
    late = LAST_HOUR + 3 * MINUTE
    await history.add([{"server_id": server_id, "timestamp": late, "llm_requests": 10, "active_users": 2}])
    await history.roll_up(LATER + timedelta(days=40))
    for period in COARSE:
        (row,) = await history.rows(period, server_id)
        assert (row["llm_requests"], row["active_users"], row["sample_count"]) == (11, 2, 2)
        (fleet,) = await history.fetch("SELECT * FROM fleet_metrics WHERE period = $1", period.value)
        assert (fleet["llm_requests"], fleet["active_users"], fleet["sample_count"]) == (11, 2, 2)


async def test_coarse_rows_exist_soon_and_grow(history: History) -> None:
    server_id = await history.add_server("web-1")
    counts = []
    for number in range(0, 75, 5):
        await history.add(
            [{"server_id": server_id, "timestamp": LAST_HOUR - timedelta(hours=1) + number * MINUTE} for _ in range(5)]
        )
        await history.roll_up(LAST_HOUR - timedelta(hours=1) + (number + 5) * MINUTE + GRACE)
        rows = [await history.rows(period, server_id) for period in (Period.QUARTER, Period.HOUR, Period.DAY)]
        counts.append(tuple(found[-1]["sample_count"] if found else 0 for found in rows))
    assert counts[:3] == [(5, 0, 0), (10, 0, 0), (15, 15, 0)]
    assert counts[3:6] == [(5, 15, 0), (10, 15, 0), (15, 30, 0)]
    assert counts[11:] == [(15, 60, 60), (5, 60, 60), (10, 60, 60), (15, 15, 60)]


async def test_a_bucket_that_nothing_follows_becomes_final_too(history: History) -> None:
    server_id = await history.add_server("web-1")
    await history.add([{"server_id": server_id, "timestamp": DAY + timedelta(hours=12), "llm_requests": 5}])
    noon = DAY + timedelta(hours=12)
    await history.roll_up(noon + 5 * MINUTE + GRACE)
    assert await history.rows(Period.HOUR, server_id) == []
    await history.roll_up(noon + timedelta(days=2))
    assert [(await history.rows(period, server_id))[0]["llm_requests"] for period in COARSE] == [5] * 4


async def test_minutes_wait_until_they_are_complete(history: History) -> None:
    await history.add_server("web-1")
    await history.add_many(DAY, 5)
    assert await history.roll_up(DAY + MINUTE + GRACE - timedelta(seconds=1)) == 0
    assert await history.roll_up(DAY + MINUTE + GRACE) == 1
    assert await history.roll_up(DAY + 5 * MINUTE) == 3
    assert await history.rows(Period.FIVE_MINUTES) == []


async def test_a_day_that_was_missed_is_caught_up_in_the_order_of_time(history: History) -> None:
    await history.add_server("web-1")
    await history.add_many(DAY, 24 * 60)
    done: list[Note] = []
    original = rollups.roll_up

    async def noting(connection: Any, note: Note) -> None:
        done.append(note)
        await original(connection, note)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollups, "roll_up", noting)
        assert await history.roll_up() == 24 * 60 + 288 + 96 + 24 + 1
    assert [note.turn for note in done] == sorted(note.turn for note in done)
    assert await history.noted() == []
    expected = await history.totals(Period.MINUTE)
    for period in COARSE:
        assert await history.totals(period) == expected


async def test_a_process_that_stops_leaves_the_rest_to_the_next(history: History) -> None:
    await history.add_server("web-1")
    await history.add_many(LAST_HOUR, 60)
    answers = iter([False, False, False, True])
    assert await history.rollups.roll_up(LATER, should_stop=lambda: next(answers)) == 3
    assert await history.roll_up() == 60 + 12 + 4 + 1 + 1 - 3
    assert await history.totals(Period.DAY) == await history.totals(Period.MINUTE)


async def test_two_at_once_do_the_work_once(history: History) -> None:
    for number in range(20):
        await history.add_server(f"server-{number}")
    await history.add_many(DAY, 6 * 60)
    other = Database(history.database.dsn)
    done: list[Note] = []
    original = rollups.roll_up

    async def noting(connection: Any, note: Note) -> None:
        done.append(note)
        await original(connection, note)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollups, "roll_up", noting)
        await asyncio.gather(history.roll_up(), History(other).roll_up())
        await history.roll_up()
    minutes = [note for note in done if note.period in (Period.MINUTE, Period.FIVE_MINUTES)]
    assert len(minutes) == 6 * 60 + 6 * 12
    assert len({(note.period, note.bucket) for note in minutes}) == len(minutes)
    expected = await history.totals(Period.MINUTE)
    for period in COARSE:
        assert await history.totals(period) == expected
    await other.close()


async def test_rows_that_are_being_written_are_waited_for(history: History) -> None:
    server_id = await history.add_server("web-1")
    await history.add([{"server_id": server_id, "timestamp": DAY, "llm_requests": 1}])
    async with history.database.transaction() as writer:
        await writer.execute(
            "INSERT INTO server_metrics_aggregated (period, timestamp, server_id, sample_count, llm_requests) "
            "VALUES ('1m', $1, $2, 1, 2)",
            DAY + MINUTE,
            server_id,
        )
        await metrics.note_due(writer, {DAY + MINUTE})
        await history.roll_up()
        assert await history.rows(Period.FIVE_MINUTES) == []
    await history.roll_up()
    assert (await history.rows(Period.DAY))[0]["llm_requests"] == 3


_CHILD = """
import asyncio, sys
from datetime import datetime
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.rollups import RollupService
from opsfleet.store import rollups
from opsfleet.store.database import Database

original = rollups.roll_up

async def roll_up(connection, note):
    print(note.name, flush=True)
    await original(connection, note)

rollups.roll_up = roll_up

async def main():
    database = Database(sys.argv[1])
    await RollupService(database, MaintenanceService(database)).roll_up(datetime.fromisoformat(sys.argv[2]))

asyncio.run(main())
"""


async def test_killed_at_any_point_the_next_process_makes_the_sums_right(history: History) -> None:
    for number in range(200):
        await history.add_server(f"server-{number}", f"region-{number % 3}")
    await history.add_many(LAST_HOUR, 60)
    chance = random.Random(7)
    for _ in range(6):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _CHILD,
            history.database.dsn,
            LATER.isoformat(),
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        for _ in range(chance.randint(1, 12)):
            await child.stdout.readline()
        child.kill()
        await child.wait()
    while await history.noted():
        await history.roll_up()
    expected = await history.totals(Period.MINUTE)
    for period in COARSE:
        assert await history.totals(period) == expected
        rows = await history.rows(period)
        assert len({(row["server_id"], row["timestamp"]) for row in rows}) == len(rows)
    await _fleet_agrees(history)


async def _fleet_agrees(history: History) -> None:
    """Compare each row of the fleet with what the rows of its servers come to."""
    for period in Period:
        expected: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        places = {
            row["id"]: (row["organization_id"], row["region"] or "", row["environment"] or "")
            for row in await history.fetch("SELECT id, organization_id, region, environment FROM managed_servers")
        }
        for row in await history.rows(period):
            expected.setdefault((*places[row["server_id"]], row["timestamp"]), []).append(row)
        found = await history.fetch("SELECT * FROM fleet_metrics WHERE period = $1", period.value)
        keys = [(row["organization_id"], row["region"], row["environment"], row["timestamp"]) for row in found]
        assert sorted(keys) == sorted(expected)
        for key, fleet in zip(keys, found, strict=True):
            rows = expected[key]
            assert fleet["servers"] == len(rows)
            assert fleet["sample_count"] == sum(row["sample_count"] for row in rows)
            for name in (*SUMS, *LATEST):
                known = [row[name] for row in rows if row[name] is not None]
                assert fleet[name] == (sum(known) if known else None), name
            for name in PERCENTAGES:
                known = [row[name] for row in rows if row[name] is not None]
                assert fleet[f"{name}_count"] == len(known)
                assert fleet[f"{name}_sum"] == (pytest.approx(sum(known)) if known else None)
                peaks = [max(row[f"{name}_max"] or 0, row[name]) for row in rows if row[name] is not None]
                assert fleet[f"{name}_max"] == (max(peaks) if peaks else None)


async def test_the_fleet_agrees_with_its_servers_by_organization_region_and_environment(history: History) -> None:
    other = new_id()
    async with history.database.connection() as connection:
        await connection.execute("INSERT INTO organizations (id, name, slug) VALUES ($1, 'Other', 'other')", other)
    for number in range(12):
        region = (None, "eu", "us")[number % 3]
        await history.add_server(f"server-{number}", region, ("prod", None)[number % 2])
        await history.add_server(f"server-{number}", region, "prod", other)
    await history.add_many(LAST_HOUR + 30 * MINUTE, 30, seed=3)
    await history.roll_up()
    await _fleet_agrees(history)
    kinds = await history.fetch("SELECT DISTINCT organization_id, region, environment FROM fleet_metrics")
    assert len(kinds) == 6 + 3


async def test_the_end_of_february_stays_in_february(history: History) -> None:
    server_id = await history.add_server("web-1")
    last = datetime(2028, 2, 29, 23, 59, tzinfo=UTC)
    await history.prepare(last + MINUTE)
    await history.add(
        [
            {"server_id": server_id, "timestamp": last, "llm_requests": 1},
            {"server_id": server_id, "timestamp": last + MINUTE, "llm_requests": 100},
        ]
    )
    await history.roll_up(last + timedelta(days=3))
    for period in COARSE:
        february, march = await history.rows(period, server_id)
        assert (february["timestamp"], february["llm_requests"]) == (period.start_of(last), 1)
        assert (march["timestamp"], march["llm_requests"]) == (last + MINUTE, 100)
        part = f"server_metrics_aggregated_2028_02_{period.value}"
        assert [tuple(row) for row in await history.fetch(f"SELECT llm_requests FROM {part}")] == [(1,)]


@pytest.mark.parametrize(
    "part", ["server_metrics_aggregated_2028_02_1m", "server_metrics_aggregated_2028_02_1h", "fleet_metrics_2028_02_1d"]
)
async def test_a_bucket_whose_part_retention_dropped_is_given_up_and_the_rest_stays(
    history: History, part: str
) -> None:
    server_id = await history.add_server("web-1")
    await history.add([{"server_id": server_id, "timestamp": DAY, "llm_requests": 7}])
    await history.roll_up()
    async with history.database.connection() as connection:
        await connection.execute(f"DROP TABLE {part}")
        await metrics.note_due(connection, {DAY})
    with structlog.testing.capture_logs() as logs:
        await history.roll_up()
    assert part in logs[0]["event"]
    assert {log["event_kind"] for log in logs} == {"rollup_given_up"}
    assert await history.noted() == []
    for period in COARSE:
        if not part.startswith("server") or not part.endswith(period.value):
            assert [row["llm_requests"] for row in await history.rows(period, server_id)] == [7]


async def test_a_late_minute_whose_neighbours_are_gone_spoils_nothing(history: History) -> None:
    server_id = await history.add_server("web-1")
    await history.add_many(DAY, 5)
    await history.roll_up()
    good = await history.rows(Period.FIVE_MINUTES, server_id)
    (fleet,) = await history.fetch("SELECT network_tx_bytes FROM fleet_metrics WHERE period = '5m'")
    minutes = f"{Month.of(DAY).partition('server_metrics_aggregated')}_1m"
    await history.fetch(f"DELETE FROM {minutes}")  # as retention leaves it, though the part was made again since
    await history.add([{"server_id": server_id, "timestamp": DAY, "network_tx_bytes": 0}])
    await history.roll_up()
    assert await history.rows(Period.FIVE_MINUTES, server_id) == good
    assert (await history.fetch("SELECT network_tx_bytes FROM fleet_metrics WHERE period = '5m'"))[0] == fleet
    assert await history.noted() == []


async def test_a_long_time_without_the_job_is_caught_up_whatever_the_retention(history: History) -> None:
    server_id = await history.add_server("web-1")
    await history.add_many(DAY, 5)
    await history.roll_up(DAY + timedelta(days=40))
    assert len(await history.rows(Period.FIVE_MINUTES, server_id)) == 1
    assert await history.totals(Period.DAY) == await history.totals(Period.MINUTE)


async def test_what_was_spent_stays_where_it_was_spent(history: History) -> None:
    stays = await history.add_server("stays", "eu")
    goes = await history.add_server("goes", "us")
    spent = [{"server_id": server, "timestamp": DAY, "llm_cost_usd": 5} for server in (stays, goes)]
    await history.add(spent)
    await history.roll_up(DAY + timedelta(hours=2))
    async with history.database.connection() as connection:
        await connection.execute("DELETE FROM managed_servers WHERE id = $1", goes)
        await connection.execute("DELETE FROM server_metrics_aggregated WHERE server_id = $1", goes)
        await connection.execute("UPDATE managed_servers SET region = 'ap' WHERE id = $1", stays)
    await history.add([{"server_id": stays, "timestamp": DAY + timedelta(hours=3), "llm_cost_usd": 1}])
    await history.roll_up()
    for period in (Period.DAY, Period.HOUR):
        rows = await history.fetch(
            "SELECT region, sum(llm_cost_usd)::integer FROM fleet_metrics WHERE period = $1 GROUP BY region",
            period.value,
        )
        assert {row[0]: row[1] for row in rows} == {"eu": 5, "us": 5, "ap": 1}


@pytest.mark.parametrize("period", [Period.FIVE_MINUTES, Period.QUARTER, Period.HOUR, Period.DAY])
async def test_a_part_of_roll_ups_that_somebody_dropped_is_filled_again(history: History, period: Period) -> None:
    await history.add_server("web-1")
    await history.add_many(DAY, 90)
    await history.roll_up()
    part = f"{Month.of(DAY).partition('server_metrics_aggregated')}_{period.value}"
    await history.fetch(f"DROP TABLE {part}")
    await history.maintenance.repair({Month.of(DAY)}, LATER)
    await history.add_many(DAY + timedelta(hours=5), 1)
    await history.roll_up()
    minutes = await history.totals(Period.MINUTE)
    for coarser in (Period.FIVE_MINUTES, Period.QUARTER, Period.HOUR, Period.DAY):
        assert await history.totals(coarser) == minutes


async def test_a_part_of_this_month_that_somebody_dropped_is_made_again(history: History) -> None:
    server_id = await history.add_server("web-1")
    now = datetime.now(UTC)
    minute = Period.MINUTE.start_of(now - timedelta(hours=1))
    await history.prepare(minute)
    async with history.database.connection() as connection:
        await connection.execute(f"DROP TABLE server_metrics_aggregated_{minute:%Y_%m}_5m")
    await history.add([{"server_id": server_id, "timestamp": minute, "llm_requests": 7}])
    await history.roll_up(now)
    (row,) = await history.rows(Period.FIVE_MINUTES, server_id)
    assert row["llm_requests"] == 7


async def test_one_bucket_that_cannot_be_rolled_up_holds_up_no_other(history: History) -> None:
    await history.add_server("web-1")
    await history.add_many(DAY, 2)
    await history.add_many(DAY + timedelta(hours=1), 2)
    original = rollups.roll_up

    async def failing(connection: Any, note: Note) -> None:
        if note.period is Period.FIVE_MINUTES and note.bucket == DAY:
            raise ValueError("impossible")
        await original(connection, note)

    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(rollups, "roll_up", failing)
        await history.roll_up()
    assert [log["event"] for log in logs] == ["The roll-up of 5m from 2028-02-29 00:00 UTC failed: impossible"]
    assert await history.noted() == [("5m", DAY)]
    assert len(await history.rows(Period.DAY)) == 1
    await history.roll_up()
    assert await history.totals(Period.DAY) == await history.totals(Period.MINUTE)


MINUTES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 24 * 60 - 1),
        st.none() | st.integers(0, 2**40),
        st.none() | st.decimals(0, 1000, places=6),
        st.none() | st.integers(0, 2**31 - 1),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row[:2],
)


@given(batches=st.lists(MINUTES, min_size=1, max_size=3))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_the_sums_of_a_day_equal_those_of_its_minutes(history: History, batches: Any) -> None:
    async with history.database.connection() as connection:
        await connection.execute("TRUNCATE server_metrics_aggregated, fleet_metrics")
        await connection.execute("TRUNCATE managed_servers CASCADE")
    servers = [await history.add_server(f"server-{number}") for number in range(2)]
    last_users: dict[UUID, dict[int, int]] = {server_id: {} for server_id in servers}
    seen: set[tuple[int, int]] = set()
    for batch in batches:
        rows = []
        for number, minute, received, cost, users in batch:
            if (number, minute) in seen:
                continue
            seen.add((number, minute))
            server_id = servers[number]
            if users is not None:
                last_users[server_id][minute] = users
            rows.append(
                {
                    "server_id": server_id,
                    "timestamp": DAY + minute * MINUTE,
                    "network_rx_bytes": received,
                    "llm_cost_usd": cost,
                    "active_users": users,
                }
            )
        await history.add(rows)
        await history.roll_up()
    expected = await history.totals(Period.MINUTE)
    for period in COARSE:
        assert await history.totals(period) == expected
    for row in await history.rows(Period.DAY):
        users = last_users[row["server_id"]]
        assert row["active_users"] == (users[max(users)] if users else None)


async def _plan(history: History, query: str, *values: object) -> list[tuple[str, str]]:
    async with history.database.transaction() as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        raw = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *values)
    return nodes(json.loads(raw)[0]["Plan"])


async def test_a_roll_up_reads_only_the_rows_of_its_bucket(history: History) -> None:
    for number in range(300):
        await history.add_server(f"server-{number}")
    await history.add_many(DAY, 4 * 60)
    await history.roll_up()
    async with history.database.connection() as connection:
        await connection.execute("VACUUM ANALYZE server_metrics_aggregated")
    start = DAY + timedelta(hours=2)
    for period in COARSE:
        finer = period.finer
        assert finer is not None
        bucket = period.start_of(start)
        plan = await _plan(history, rollups._SERVERS, period.value, bucket, finer.value, bucket + period.length)
        read = [(kind, name) for kind, name in plan if name.startswith("server_metrics_aggregated_")]
        part = f"server_metrics_aggregated_2028_02_{finer.value}"
        assert read
        own = f"server_metrics_aggregated_2028_02_{period.value}"
        assert {name.removesuffix("_timestamp_idx") for _, name in read} - {own} == {part}, plan
        if period in (Period.FIVE_MINUTES, Period.QUARTER, Period.HOUR):
            assert not any(kind == "Seq Scan" and name == part for kind, name in read), plan
        plan = await _plan(history, rollups._OUTDATED, period.value, bucket, finer.value, bucket + period.length)
        touched = {name for kind, name in plan if "Scan" in kind and name.startswith("server_metrics_aggregated_")}
        assert all(name.startswith((own, part)) for name in touched), plan
