"""The metrics worker collects from a fleet: what it asks, what it stores, and what counters come to."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import structlog
from tests.integration.metrics.conftest import Collecting

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.metrics import MetricsCollection, minute_of
from opsfleet.services.metric_reports import read_agent
from opsfleet.simulate.behaviour import Behaviour, MetricsReport, Status
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.store import targets
from opsfleet.store.metrics import CollectionToWrite
from opsfleet.store.targets import TargetRow
from opsfleet.workers.metrics import stop_metrics_worker

MINUTE = timedelta(minutes=1)


def report(**values: float) -> Behaviour:
    return Behaviour(metrics=MetricsReport(**values))


async def test_counters_are_stored_as_what_they_grew_by(collecting: Collecting, agents: SimulatedFleet) -> None:
    server_id = await collecting.add("web-1", agents.url(0))
    start = minute_of(datetime.now(UTC))
    for minute, (received, requests, cost) in enumerate([(1_000, 5, 0.1), (1_500, 8, 0.300001), (1_500, 8, 0.300001)]):
        agents.set_behaviour(
            0, report(cpu_percent=10.0 + minute, network_rx_bytes=received, llm_requests=requests, llm_cost_usd=cost)
        )
        await collecting.cycle(start + minute * MINUTE + timedelta(seconds=20))
    first, second, third = await collecting.rows(server_id)
    assert [row["timestamp"] for row in (first, second, third)] == [start, start + MINUTE, start + 2 * MINUTE]
    assert (first["network_rx_bytes"], first["llm_cost_usd"]) == (None, None), "nothing to compare the first with"
    assert (second["network_rx_bytes"], second["llm_requests"]) == (500, 3)
    assert second["llm_cost_usd"] == Decimal("0.200001")
    assert (third["network_rx_bytes"], third["llm_requests"], third["llm_cost_usd"]) == (0, 0, 0)
    assert [row["cpu_percent"] for row in (first, second, third)] == [10, 11, 12]
    assert {row["sample_count"] for row in (first, second, third)} == {1}
    stats = collecting.worker.get_stats()
    assert (stats["collections_performed"], stats["collections_successful"], stats["success_rate"]) == (3, 3, 100.0)
    assert stats["total_metrics_collected"] >= 3 * 9


async def test_a_missed_poll_loses_nothing_and_a_restart_counts_from_zero(
    collecting: Collecting, agents: SimulatedFleet
) -> None:
    server_id = await collecting.add("web-1", agents.url(0))
    start = minute_of(datetime.now(UTC))
    steps: list[Behaviour] = [
        report(network_tx_bytes=100),
        Behaviour(status=Status(503)),
        report(network_tx_bytes=400),
        report(network_tx_bytes=50),  # the agent restarted
        report(network_tx_bytes=70),
    ]
    for minute, behaviour in enumerate(steps):
        agents.set_behaviour(0, behaviour)
        await collecting.cycle(start + minute * MINUTE)
    rows = await collecting.rows(server_id)
    assert [row["timestamp"] - start for row in rows] == [minute * MINUTE for minute in (0, 2, 3, 4)]
    assert [row["network_tx_bytes"] for row in rows] == [None, 300, 50, 20]
    stats = collecting.worker.get_stats()
    assert (stats["collections_successful"], stats["collections_failed"], stats["success_rate"]) == (4, 1, 80.0)


async def test_a_control_plane_that_starts_again_goes_on_from_what_is_stored(
    collecting: Collecting, agents: SimulatedFleet
) -> None:
    server_id = await collecting.add("web-1", agents.url(0))
    start = minute_of(datetime.now(UTC))
    agents.set_behaviour(0, report(network_rx_bytes=100))
    await collecting.cycle(start)
    _, successor = collecting.new_worker()
    await successor.initialize()
    agents.set_behaviour(0, report(network_rx_bytes=180))
    await collecting.cycle(start + MINUTE, successor)
    agents.set_behaviour(0, report(network_rx_bytes=200))
    # The first goes on as if it were still in charge: what it remembers is not what is stored.
    await collecting.cycle(start + 2 * MINUTE)
    await stop_metrics_worker(successor)
    assert [row["network_rx_bytes"] for row in await collecting.rows(server_id)] == [None, 80, 20]


async def test_two_workers_in_one_minute_make_one_row(collecting: Collecting, agents: SimulatedFleet) -> None:
    server_id = await collecting.add("web-1", agents.url(0))
    start = minute_of(datetime.now(UTC))
    _, other = collecting.new_worker()
    await other.initialize()
    for minute in range(3):
        for step, worker in enumerate((collecting.worker, other)):
            agents.set_behaviour(
                0, report(network_rx_bytes=1_000 * (2 * minute + step), cpu_percent=10.0 + 20 * step, active_users=step)
            )
            await collecting.cycle(start + minute * MINUTE, worker)
    await stop_metrics_worker(other)
    rows = await collecting.rows(server_id)
    assert [row["timestamp"] for row in rows] == [start, start + MINUTE, start + 2 * MINUTE]
    assert sum(row["network_rx_bytes"] for row in rows) == 5_000
    assert {(row["cpu_percent"], row["cpu_percent_max"], row["active_users"]) for row in rows} == {(20, 30, 1)}
    assert {row["sample_count"] for row in rows} == {2}


async def test_only_servers_that_answer_well_enough_are_asked(collecting: Collecting, agents: SimulatedFleet) -> None:
    for number, health in enumerate([*HealthStatus, None]):
        await collecting.add(f"s-{number}", agents.url(number), health)
    inactive = await collecting.add("inactive", agents.url(9))
    await collecting.servers.change(DEFAULT_ORGANIZATION, inactive, {"status": "inactive"})
    collecting.source._note_change()
    with structlog.testing.capture_logs() as logs:
        await collecting.cycle(datetime.now(UTC))
    names = await collecting.fetch(
        "SELECT name FROM server_metrics_aggregated JOIN managed_servers ON id = server_id ORDER BY name"
    )
    assert [row["name"] for row in names] == ["s-0", "s-1"]
    assert logs[0]["event"] == "Starting metrics collection for 2 servers"
    assert logs[1]["event"].startswith("Metrics collection complete: 2 servers in ")
    assert logs[1]["event"].endswith("s (✓2 ❌0)")


async def test_failures_are_named_at_most_five(collecting: Collecting, agents: SimulatedFleet) -> None:
    for number in range(7):
        await collecting.add(f"server-{number}", agents.url(number))
        agents.set_behaviour(number, Behaviour(status=Status(500)))
    with structlog.testing.capture_logs() as logs:
        await collecting.cycle(datetime.now(UTC))
    names = sorted(f"server-{number}" for number in range(7))
    event = logs[-1]["event"]
    assert event.startswith("Failed to collect metrics from: ")
    assert event.endswith(" and 2 more")
    listed = event.removeprefix("Failed to collect metrics from: ").removesuffix(" and 2 more").split(", ")
    assert len(listed) == 5
    assert set(listed) < set(names)
    errors = await collecting.fetch("SELECT error FROM server_last_collections")
    assert {row["error"] for row in errors} == {"HTTP 500"}


async def test_a_collection_that_waited_across_a_restart_of_the_agent_counts_nothing_twice(
    collecting: Collecting, agents: SimulatedFleet
) -> None:
    server_id = await collecting.add("web-1", agents.url(0))
    (target,) = await _targets(collecting, server_id)
    start = minute_of(datetime.now(UTC))
    # In the order in which they are stored; the third was collected before the agent restarted.
    for at, value in ((0, 900), (120, 10), (60, 1000), (180, 20)):
        moment = start + timedelta(seconds=at)
        body = f'{{"network_rx_bytes": {value}}}'.encode()
        collection = MetricsCollection(server_id, moment, minute_of(moment), read_agent(body), None)
        await collecting.metrics.record([CollectionToWrite(collection, target.revision, None)])
    rows = await collecting.rows(server_id)
    assert [row["network_rx_bytes"] for row in rows] == [None, None, 10, 10]


async def test_a_server_at_another_address_is_not_compared_with_the_one_before(
    collecting: Collecting, agents: SimulatedFleet
) -> None:
    server_id = await collecting.add("web-1", agents.url(0))
    start = minute_of(datetime.now(UTC))
    agents.set_behaviour(0, report(llm_cost_usd=1.0))
    agents.set_behaviour(1, report(llm_cost_usd=5_000.0))
    await collecting.cycle(start)
    await collecting.servers.change(DEFAULT_ORGANIZATION, server_id, {"api_url": agents.url(1)})
    collecting.source._note_change()
    await collecting.cycle(start + MINUTE)
    agents.set_behaviour(1, report(llm_cost_usd=5_000.5))
    await collecting.cycle(start + 2 * MINUTE)
    assert [row["llm_cost_usd"] for row in await collecting.rows(server_id)] == [None, None, Decimal("0.5")]


async def _targets(collecting: Collecting, server_id: UUID) -> list[TargetRow]:
    async with collecting.database.connection() as connection:
        return await targets.select(connection, [server_id])
