"""A server with nothing but Debian's node_exporter is watched like one with an agent."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from tests.integration.metrics.conftest import Collecting
from tests.support import rogue
from tests.support.prometheus import NODE_EXPORTER, node_exporter, requires

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.metrics import minute_of
from opsfleet.simulate.behaviour import Behaviour, MetricsReport
from opsfleet.simulate.fleet import SimulatedFleet

MINUTE = timedelta(minutes=1)
KIND = {"kind": "node_exporter", "api_token": None}

FAILED_UNITS = b"""# TYPE node_exporter_build_info gauge
node_exporter_build_info{version="1.9.1"} 1
# TYPE node_systemd_unit_state gauge
node_systemd_unit_state{name="nginx.service",state="failed",type="simple"} 1
node_systemd_unit_state{name="ssh.service",state="active",type="notify"} 1
"""


def busy_share(before: psutil._ntuples.scputimes, now: psutil._ntuples.scputimes) -> float:
    spent = [later - earlier for earlier, later in zip(before[:8], now[:8], strict=True)]
    return 100 * (1 - spent[before._fields.index("idle")] / sum(spent))


def work(seconds: float) -> None:
    """Keep a processor busy for so many seconds of its time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


@requires(NODE_EXPORTER)
async def test_its_values_are_those_of_the_machine(collecting: Collecting) -> None:
    async with node_exporter() as address:
        server_id = await collecting.add("web-1", f"http://{address}", **KIND)
        start = minute_of(datetime.now(UTC))
        before = psutil.cpu_times()
        await collecting.cycle(start)
        work(0.5)
        received = psutil.net_io_counters(pernic=True)
        now = psutil.cpu_times()
        await collecting.cycle(start + MINUTE)
    first, second = await collecting.rows(server_id)
    assert first["cpu_percent"] is None, "nothing to compare the first with"
    assert second["cpu_percent"] == pytest.approx(busy_share(before, now), abs=20)
    assert second["memory_percent"] == pytest.approx(psutil.virtual_memory().percent, abs=10)
    root = os.statvfs("/")
    assert second["disk_percent"] == pytest.approx(100 - 100 * root.f_bavail / root.f_blocks, abs=1)
    assert 0 <= second["network_rx_bytes"] <= sum(nic.bytes_recv for nic in received.values()) + 1
    assert second["llm_requests"] is None


@requires(NODE_EXPORTER)
async def test_its_address_may_name_the_page_and_its_health_is_checked(collecting: Collecting) -> None:
    async with node_exporter() as address:
        for name, url in {"base": f"http://{address}/", "page": f"http://{address}/metrics"}.items():
            server_id = await collecting.add(name, url, None, **KIND)
            check = await collecting.health.check_now(DEFAULT_ORGANIZATION, server_id)
            assert (check.status, check.error_message) == (HealthStatus.HEALTHY, None)
            assert check.version
            assert (check.database_healthy, check.redis_healthy, check.services_healthy) == (None, None, None)
            collection = await collecting.metrics.collect_now(DEFAULT_ORGANIZATION, server_id)
            assert collection.reading is not None
            assert collection.reading.gauges.memory_percent is not None
    check = await collecting.health.check_now(DEFAULT_ORGANIZATION, server_id)
    assert (check.status, check.error_message) == (HealthStatus.UNREACHABLE, "connection refused")


@requires(NODE_EXPORTER)
async def test_its_restart_is_not_the_machine_s(collecting: Collecting) -> None:
    start = minute_of(datetime.now(UTC))
    async with node_exporter() as address:
        server_id = await collecting.add("web-1", f"http://{address}", **KIND)
        await collecting.cycle(start)
    await collecting.cycle(start + MINUTE)
    work(0.1)
    async with node_exporter(address=address):
        await collecting.cycle(start + 2 * MINUTE)
    rows = await collecting.rows(server_id)
    assert [row["timestamp"] - start for row in rows] == [0 * MINUTE, 2 * MINUTE]
    assert rows[1]["cpu_percent"] is not None
    traffic = sum(nic.bytes_recv for name, nic in psutil.net_io_counters(pernic=True).items() if name != "lo")
    assert 0 <= rows[1]["network_rx_bytes"] < max(traffic, 1)


@pytest.fixture
def poor_procfs(tmp_path: Path) -> Path:
    """A copy of /proc that lacks what is known of the memory."""
    (tmp_path / "1").mkdir()
    for name in ("stat", "mounts", "uptime", "1/mounts"):
        (tmp_path / name).write_bytes(Path("/proc", name).read_bytes())
    return tmp_path


@requires(NODE_EXPORTER)
async def test_what_one_collector_cannot_read_is_named_and_the_rest_is_kept(
    collecting: Collecting, poor_procfs: Path
) -> None:
    async with node_exporter(f"--path.procfs={poor_procfs}", "--no-collector.systemd") as address:
        server_id = await collecting.add("web-1", f"http://{address}", **KIND)
        collection = await collecting.metrics.collect_now(DEFAULT_ORGANIZATION, server_id)
        check = await collecting.health.check_now(DEFAULT_ORGANIZATION, server_id)
    assert collection.reading is not None
    assert "memory_percent: the exporter's meminfo collector failed" in (collection.error or "")
    assert collection.reading.gauges.memory_percent is None
    assert collection.reading.gauges.disk_percent is not None
    assert collection.reading.counters.cpu_total_seconds is not None
    assert check.status is HealthStatus.HEALTHY


async def test_failed_systemd_units_degrade_a_server_and_are_counted(collecting: Collecting) -> None:
    async with rogue.server(rogue.json(FAILED_UNITS)) as server:
        server_id = await collecting.add("web-1", f"http://127.0.0.1:{server.port}/node", **KIND)
        check = await collecting.health.check_now(DEFAULT_ORGANIZATION, server_id)
        await collecting.cycle(datetime.now(UTC))
        heads = [head.decode().split("\r\n") for head in server.heads]
    assert check.status is HealthStatus.DEGRADED
    assert check.error_message == "1 of 2 services failed: nginx.service"
    assert check.version == "1.9.1"
    (row,) = await collecting.rows(server_id)
    assert (row["active_services"], row["failed_services"], row["total_services"]) == (1, 1, 2)
    assert {head[0] for head in heads} == {"GET /node/metrics HTTP/1.1"}
    for head in heads:
        assert "Accept: text/plain;version=0.0.4" in head
        assert not any(line.startswith("Authorization") for line in head), "it has no token"


async def test_a_token_is_sent_when_there_is_one(collecting: Collecting) -> None:
    async with rogue.server(rogue.json(FAILED_UNITS)) as server:
        url = f"http://127.0.0.1:{server.port}"
        server_id = await collecting.add("web-1", url, kind="node_exporter", api_token="secret-token")
        await collecting.health.check_now(DEFAULT_ORGANIZATION, server_id)
        assert b"Authorization: Bearer secret-token\r\n" in server.heads[-1]


async def test_what_is_no_answer_of_a_node_exporter_is_critical_with_its_reason(collecting: Collecting) -> None:
    large = FAILED_UNITS + b"# " + b"x" * 1024 * 1024 + b"\n"
    cases = [
        (rogue.json(b"<html>Sign in</html>\n"), "not in Prometheus' text format at line 1: <html>Sign in</html>"),
        (rogue.json(b'{"status": "ok"}\n'), 'not in Prometheus\' text format at line 1: {"status": "ok"}'),
        (rogue.json(FAILED_UNITS[:-30]), "not in Prometheus' text format: the last line is cut off"),
        (rogue.status(401), "HTTP 401"),
        (rogue.status(500, body=b"error gathering metrics\n"), "HTTP 500"),
        (rogue.json(large), "body over 1 MiB"),
        (rogue.endless_body, "body over 1 MiB"),
    ]
    for number, (behaviour, message) in enumerate(cases):
        async with rogue.server(behaviour) as server:
            server_id = await collecting.add(f"web-{number}", f"http://127.0.0.1:{server.port}", **KIND)
            check = await collecting.health.check_now(DEFAULT_ORGANIZATION, server_id)
            collection = await collecting.metrics.collect_now(DEFAULT_ORGANIZATION, server_id)
        assert (check.status, check.error_message) == (HealthStatus.CRITICAL, message)
        assert (collection.reading, collection.error) == (None, message)


async def test_another_kind_counts_from_the_start(collecting: Collecting, agents: SimulatedFleet) -> None:
    server_id = await collecting.add("web-1", agents.url(0))
    agents.set_behaviour(0, Behaviour(metrics=MetricsReport(network_rx_bytes=10**12)))
    start = minute_of(datetime.now(UTC))
    await collecting.cycle(start)
    body = b'node_network_receive_bytes_total{device="eth0"} 5e+09\n'
    async with rogue.server(rogue.json(body)) as server:
        change = {"kind": "node_exporter", "api_url": f"http://127.0.0.1:{server.port}"}
        await collecting.servers.change(DEFAULT_ORGANIZATION, server_id, change)
        collecting.source._note_change()
        await collecting.cycle(start + MINUTE)
        await collecting.cycle(start + 2 * MINUTE)
    rows = await collecting.rows(server_id)
    assert [row["network_rx_bytes"] for row in rows] == [None, None, 0]
