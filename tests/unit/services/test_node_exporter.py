"""What a node_exporter's answer amounts to: the values of its own dashboards, and a verdict."""

from datetime import UTC, datetime
from typing import Any

import pytest

from opsfleet.domain.health import HealthCheck, HealthStatus
from opsfleet.domain.ids import new_id
from opsfleet.domain.metrics import busy_percent, increases
from opsfleet.services.metric_reports import NotMetricsError
from opsfleet.services.node_exporter import judge, read_metrics

SERVER = new_id()

CPU = """
node_cpu_seconds_total{cpu="0",mode="idle"} 800
node_cpu_seconds_total{cpu="0",mode="iowait"} 50
node_cpu_seconds_total{cpu="0",mode="user"} 150
node_cpu_seconds_total{cpu="1",mode="idle"} 900
node_cpu_seconds_total{cpu="1",mode="user"} 100
"""
MEMORY = "node_memory_MemTotal_bytes 8e+09\nnode_memory_MemAvailable_bytes 2e+09\nnode_memory_MemFree_bytes 1e+09\n"
DISKS = """
node_filesystem_avail_bytes{device="/dev/sda1",fstype="ext4",mountpoint="/"} 30
node_filesystem_avail_bytes{device="/dev/sdb1",fstype="xfs",mountpoint="/srv"} 5
node_filesystem_avail_bytes{device="rootfs",fstype="rootfs",mountpoint="/"} 1
node_filesystem_avail_bytes{device="tmpfs",fstype="tmpfs",mountpoint="/run"} 0
# HELP node_filesystem_size_bytes Filesystem size in bytes.
node_filesystem_size_bytes{device="/dev/sda1",fstype="ext4",mountpoint="/"} 120
node_filesystem_size_bytes{device="/dev/sdb1",fstype="xfs",mountpoint="/srv"} 100
node_filesystem_size_bytes{device="rootfs",fstype="rootfs",mountpoint="/"} 100
node_filesystem_size_bytes{device="tmpfs",fstype="tmpfs",mountpoint="/run"} 100
"""
NETWORK = """
node_network_receive_bytes_total{device="eth0"} 5.5095945e+08
node_network_receive_bytes_total{device="wlan0"} 5
node_network_receive_bytes_total{device="lo"} 1e+15
node_network_transmit_bytes_total{device="eth0"} 7
node_network_transmit_bytes_total{device="lo"} 1e+15
"""


def units(**states: str) -> str:
    known = ("activating", "active", "deactivating", "failed", "inactive")
    return "".join(
        f'node_systemd_unit_state{{name="{name}.{"timer" if name == "daily" else "service"}",state="{state}",'
        f'type="simple"}} {int(states[name] == state)}\n'
        for name in states
        for state in known
    )


def check(body: str) -> HealthCheck:
    return judge(body.encode(), SERVER, datetime.now(UTC), 1.0)


def test_the_values_are_those_of_the_dashboards() -> None:
    reading = read_metrics((CPU + MEMORY + DISKS + NETWORK).encode())
    assert reading.problems == ()
    assert reading.gauges.memory_percent == 75
    assert reading.gauges.disk_percent == 75
    assert reading.counters.network_rx_bytes == 550_959_455
    assert reading.counters.network_tx_bytes == 7
    assert (reading.counters.cpu_idle_seconds, reading.counters.cpu_total_seconds) == (1_700, 2_000)
    assert (reading.gauges.active_services, reading.gauges.active_users) == (None, None)


def test_the_share_of_the_cpu_is_that_between_two_readings() -> None:
    later = CPU.replace("} 800", "} 830").replace("} 150", "} 170").replace("} 900", "} 950")
    before, now = (read_metrics(text.encode()).counters for text in (CPU, later))
    assert busy_percent(before, now) == pytest.approx(20)
    assert busy_percent(now, before) is None, "the machine restarted"


def test_time_of_guests_is_not_counted_twice() -> None:
    text = (
        CPU + 'node_cpu_seconds_total{cpu="1",mode="guest"} 90\nnode_cpu_seconds_total{cpu="1",mode="guest_nice"} 9\n'
    )
    assert read_metrics(text.encode()).counters.cpu_total_seconds == 2_000


def test_memory_of_a_kernel_that_does_not_say_what_is_available() -> None:
    text = """
node_memory_Buffers_bytes 1e+09
node_memory_Cached_bytes 2e+09
node_memory_MemFree_bytes 1e+09
node_memory_MemTotal_bytes 8e+09
"""
    assert read_metrics(text.encode()).gauges.memory_percent == 50


def test_without_a_root_file_system_the_fullest_real_one_counts() -> None:
    without = "\n".join(line for line in DISKS.split("\n") if 'mountpoint="/"' not in line)
    assert read_metrics(without.encode()).gauges.disk_percent == 95


@pytest.mark.parametrize(
    "device",
    [
        "lo",
        "veth1a2b",
        "docker0",
        "br-4f5e",
        "virbr0",
        "cni0",
        "flannel.1",
        "cali12",
        "tun0",
        "wg0",
        "bond0",
        "eth0.100",
    ],
)
def test_virtual_devices_do_not_count(device: str) -> None:
    text = NETWORK.replace('device="wlan0"', f'device="{device}"')
    assert read_metrics(text.encode()).counters.network_rx_bytes == 550_959_450


def test_a_device_that_went_away_is_no_traffic() -> None:
    before = read_metrics((CPU + NETWORK).encode()).counters
    now = read_metrics((CPU + NETWORK.replace('device="wlan0"', 'device="lo"')).encode()).counters
    rebooted = now._replace(cpu_total_seconds=10.0, cpu_idle_seconds=9.0)
    assert increases(before, now).network_rx_bytes is None
    assert increases(before, now).network_tx_bytes == 0
    assert increases(before, rebooted).network_rx_bytes == 550_959_450


def test_only_the_wrong_value_is_missing() -> None:
    good = CPU + MEMORY + DISKS + NETWORK
    cases: list[tuple[str, str, str, str]] = [
        (
            'mode="iowait"} 50',
            'mode="iowait"} fifty',
            "cpu_percent",
            'line 3: node_cpu_seconds_total{cpu="0",mode="iowa',
        ),
        ('mode="iowait"} 50', 'mode="iowait"} NaN', "cpu_percent", "must be 0 to"),
        ("MemAvailable_bytes 2e+09", "MemAvailable_bytes 9e+09", "memory_percent", "makes no percentage"),
        ("MemTotal_bytes 8e+09", "MemTotal_bytes NaN", "memory_percent", "makes no percentage"),
        ("MemTotal_bytes 8e+09", "MemTotal_bytes 0", "memory_percent", "makes no percentage"),
        ('mountpoint="/"} 120', 'mountpoint="/"} 20', "disk_percent", "makes no percentage"),
        ("5.5095945e+08", "+Inf", "network_rx_bytes", "must be 0 to"),
        ("5.5095945e+08", "-6", "network_rx_bytes", "must be 0 to"),
    ]
    whole = read_metrics(good.encode())
    for old, new, name, words in cases:
        reading = read_metrics(good.replace(old, new).encode())
        assert len(reading.problems) == 1, new
        assert reading.problems[0].startswith(f"{name}: ")
        assert words in reading.problems[0]
        missing = {"cpu_percent": "cpu_total_seconds"}.get(name, name)
        values = {**reading.gauges._asdict(), **reading.counters._asdict()}
        expected = {**whole.gauges._asdict(), **whole.counters._asdict(), missing: None}
        if name == "cpu_percent":
            expected["cpu_idle_seconds"] = None
        assert values == expected


def test_a_collector_that_failed_is_named() -> None:
    text = CPU + "\n".join(
        f'node_scrape_collector_success{{collector="{name}"}} {value}'
        for name, value in {"cpu": 1, "filesystem": 0, "nfs": 0}.items()
    )
    assert read_metrics(f"{text}\n".encode()).problems == ("disk_percent: the exporter's filesystem collector failed",)


def test_services_are_the_systemd_services_that_are_not_off() -> None:
    states = {"nginx": "failed", "ssh": "active", "cron": "active", "db": "activating", "nfs": "inactive"}
    gauges = read_metrics(units(**states, daily="failed").encode()).gauges
    assert (gauges.active_services, gauges.failed_services, gauges.total_services) == (2, 1, 4)


def test_failed_services_degrade_a_server() -> None:
    states = {"web": "failed", "nginx": "failed", **{f"unit-{number}": "active" for number in range(38)}}
    found = check(units(**states, daily="failed"))
    assert found.status is HealthStatus.DEGRADED
    assert found.error_message == "2 of 40 services failed: nginx.service, web.service"
    assert (found.database_healthy, found.redis_healthy, found.services_healthy) == (None, None, False)
    assert found.error_details == {
        "kind": "services",
        "services": {"active": 38, "failed": 2, "total": 40, "failing": ["nginx.service", "web.service"]},
    }
    assert check(units(ssh="active")).status is HealthStatus.HEALTHY


def test_names_of_units_are_read_as_they_are() -> None:
    found = check(r'node_systemd_unit_state{name="a\\x2db\"c\".service",state="failed"} 1' + "\n")
    assert found.error_message == r'1 of 1 services failed: a\x2db"c".service'


@pytest.mark.parametrize(
    ("lines", "version"),
    [
        (['node_exporter_build_info{branch="HEAD",version="1.9.1"} 1', 'node_os_info{version="12"} 1'], "1.9.1"),
        (['node_os_info{id="debian",version="12 (bookworm)"} 1'], "12 (bookworm)"),
        (['node_uname_info{release="6.1.0-18-amd64",version="#1 SMP"} 1'], "6.1.0-18-amd64"),
        (["node_load1 1"], None),
    ],
)
def test_the_version(lines: list[str], version: str | None) -> None:
    found = check("\n".join([*lines, ""]))
    assert (found.status, found.version) == (HealthStatus.HEALTHY, version)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "not in Prometheus' text format: the answer is empty"),
        ("<html>\n", "not in Prometheus' text format at line 1: <html>"),
        ("node_load1 0.5\nnode_load5 0.", "not in Prometheus' text format: the last line is cut off"),
        ("go_goroutines 8\n", "not a node_exporter: no metric's name begins with node_"),
    ],
)
def test_an_answer_of_something_else_is_critical_and_no_reading(body: str, message: str) -> None:
    found = check(body)
    assert (found.status, found.error_message) == (HealthStatus.CRITICAL, message)
    assert found.error_details == {"kind": "invalid_body", "reason": message}
    with pytest.raises(NotMetricsError) as problem:
        read_metrics(body.encode())
    assert str(problem.value) == message


def test_a_wrong_line_among_the_units_is_critical() -> None:
    found: Any = check(
        "# ok\n" + units(ssh="active") + 'node_systemd_unit_state{name="nginx.service",state=failed} 1\n'
    )
    assert found.status is HealthStatus.CRITICAL
    assert found.error_message.startswith("not in Prometheus' text format at line 7: node_systemd_unit_state{name=")
