"""What Prometheus' node_exporter says of its machine: metrics as its own dashboards derive them, and health.

The formulas are those of the dashboard "Node Exporter Full" (https://grafana.com/grafana/dashboards/1860).
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from opsfleet.domain.health import HEALTHY, HealthCheck, HealthStatus, judge_report
from opsfleet.domain.metrics import NO_COUNTERS, Gauges, Reading
from opsfleet.services.exposition import Exposition, Metric, NotExpositionError
from opsfleet.services.metric_reports import MAX_COUNTER, MAX_SERVICES, NotMetricsError
from opsfleet.services.reports import clean

PATH = "/metrics"
ACCEPT = "text/plain;version=0.0.4"

_CPU = Metric("node_cpu_seconds_total")
_MEMORY_TOTAL = Metric("node_memory_MemTotal_bytes")
_MEMORY_AVAILABLE = Metric("node_memory_MemAvailable_bytes")
_MEMORY_UNUSED = tuple(Metric(f"node_memory_{name}_bytes") for name in ("MemFree", "Buffers", "Cached", "SReclaimable"))
_DISK_SIZE = Metric("node_filesystem_size_bytes")
_DISK_AVAILABLE = Metric("node_filesystem_avail_bytes")
_RECEIVED = Metric("node_network_receive_bytes_total")
_SENT = Metric("node_network_transmit_bytes_total")
_UNITS = Metric("node_systemd_unit_state")
_COLLECTORS = Metric("node_scrape_collector_success")
_BUILD = Metric("node_exporter_build_info")
_SYSTEMS = ((Metric("node_os_info"), "version"), (Metric("node_uname_info"), "release"))

# Time of guests is part of user and nice, too.
_GUESTS = frozenset({"guest", "guest_nice"})

# What passes these devices passes a physical one as well, or never leaves the machine.
_VIRTUAL = re.compile(
    r"lo|(veth|docker|br-|virbr|vnet|cni|flannel|cali|lxc|tun|tap|wg|bond|dummy|ifb).*|.*\.\d+", re.DOTALL
)
_NOT_REAL = frozenset(
    {"rootfs", "tmpfs", "ramfs", "devtmpfs", "overlay", "squashfs", "iso9660", "efivarfs", "fuse.lxcfs"}
)

_NEEDED_COLLECTORS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("cpu_percent",),
    "meminfo": ("memory_percent",),
    "filesystem": ("disk_percent",),
    "netdev": ("network_rx_bytes", "network_tx_bytes"),
    "systemd": ("active_services", "failed_services", "total_services"),
}

Value = TypeVar("Value")


def read_metrics(body: bytes) -> Reading:
    """Return what an answer says; the CPU's share follows from the times of two readings.

    Raises:
        NotMetricsError: when it is not an answer of a node_exporter.
    """
    try:
        answer = _answer(body)
        problems = _failed_collectors(answer)
    except NotExpositionError as problem:
        raise NotMetricsError(str(problem)) from None

    def judged(names: str, read: Callable[[Exposition], Value | None]) -> Value | None:
        try:
            return read(answer)
        except ValueError as problem:
            problems.append(f"{names}: {problem}")
            return None

    idle, total = judged("cpu_percent", _cpu_seconds) or (None, None)
    services = judged("services", _services)
    active, failed, known = (services.active, len(services.failing), services.total) if services else (None,) * 3
    gauges = Gauges(
        memory_percent=judged("memory_percent", _memory_percent),
        disk_percent=judged("disk_percent", _disk_percent),
        active_services=active,
        failed_services=failed,
        total_services=known,
    )
    counters = NO_COUNTERS._replace(
        network_rx_bytes=judged("network_rx_bytes", lambda answer: _network_bytes(answer, _RECEIVED)),
        network_tx_bytes=judged("network_tx_bytes", lambda answer: _network_bytes(answer, _SENT)),
        cpu_idle_seconds=idle,
        cpu_total_seconds=total,
    )
    return Reading(gauges, counters, tuple(problems))


def judge(body: bytes, server_id: UUID, at: datetime, milliseconds: float | None) -> HealthCheck:
    """Return the health check that an answer with status 200 amounts to.

    Critical when it is not an answer of a node_exporter, degraded when systemd units have failed, otherwise healthy.
    """
    try:
        answer = _answer(body)
        services = _services(answer)
        version = _version(answer)
    except ValueError as problem:
        details = {"kind": "invalid_body", "reason": clean(str(problem))}
        return HealthCheck(
            server_id, at, HealthStatus.CRITICAL, milliseconds, error_message=str(problem), error_details=details
        )
    if services is None or not services.failing:
        verdict, facts = HEALTHY, None
    else:
        verdict = judge_report(
            own_word=None,
            database=None,
            redis=None,
            services_failed=len(services.failing),
            services_total=services.total,
            services_healthy=False,
            failing=services.failing,
        )
        facts = {
            "kind": verdict.kind,
            "services": {
                "active": services.active,
                "failed": len(services.failing),
                "total": services.total,
                "failing": services.failing[:50],
            },
        }
    return HealthCheck(
        server_id,
        at,
        verdict.status,
        milliseconds,
        services_healthy=None if services is None else not services.failing,
        error_message=verdict.message,
        error_details=facts,
        version=version,
    )


class _Services:
    """The systemd services that are not simply off, and the names of those that failed."""

    __slots__ = ("active", "failing", "total")

    def __init__(self, active: int, total: int, failing: list[str]) -> None:
        self.active = active
        self.total = total
        self.failing = failing


def _answer(body: bytes) -> Exposition:
    answer = Exposition(body)
    if not answer.has("node_"):
        raise NotExpositionError("not a node_exporter: no metric's name begins with node_")
    return answer


def _failed_collectors(answer: Exposition) -> list[str]:
    failed = {answer.labels(raw).get("collector", "") for raw, value in answer.samples(_COLLECTORS) if value == 0}
    return [
        f"{', '.join(names)}: the exporter's {collector} collector failed"
        for collector, names in _NEEDED_COLLECTORS.items()
        if collector in failed
    ]


def _cpu_seconds(answer: Exposition) -> tuple[float, float] | None:
    """Return the idle and the total seconds of all CPUs."""
    idle = total = 0.0
    found = answer.samples(_CPU)
    for raw, value in found:
        mode = answer.labels(raw).get("mode")
        if mode == "idle":
            idle += value
        if mode not in _GUESTS:
            total += value
    if not found:
        return None
    return _amount(idle), _amount(total)


def _memory_percent(answer: Exposition) -> float | None:
    total = answer.value(_MEMORY_TOTAL)
    available = answer.value(_MEMORY_AVAILABLE)
    if available is None:  # Linux before 3.14
        unused = [answer.value(metric) for metric in _MEMORY_UNUSED]
        available = None if unused[0] is None else sum(value for value in unused if value is not None)
    if total is None or available is None:
        return None
    return _used_percent(available, total)


def _disk_percent(answer: Exposition) -> float | None:
    """Return how full the root file system is for those who are not root; the fullest one when there is no root."""
    available = dict(answer.samples(_DISK_AVAILABLE))
    root: tuple[float, float] | None = None
    others: list[tuple[float, float]] = []
    for raw, size in answer.samples(_DISK_SIZE):
        labels = answer.labels(raw)
        left = available.get(raw)
        if left is None or size == 0 or labels.get("fstype") == "rootfs":
            continue
        if labels.get("mountpoint") == "/":
            root = left, size  # what was mounted last lies on top
        elif labels.get("fstype") not in _NOT_REAL:
            others.append((left, size))
    if root is not None:
        return _used_percent(*root)
    return max((_used_percent(left, size) for left, size in others), default=None)


def _network_bytes(answer: Exposition, metric: Metric) -> int | None:
    amounts = [
        value for raw, value in answer.samples(metric) if not _VIRTUAL.fullmatch(answer.labels(raw).get("device", "lo"))
    ]
    return int(_amount(sum(amounts))) if amounts else None


def _services(answer: Exposition) -> _Services | None:
    found = answer.samples(_UNITS)
    active = total = 0
    failing: list[str] = []
    for raw, value in found:
        if value != 1:
            continue
        labels = answer.labels(raw)
        name, state = labels.get("name", ""), labels.get("state")
        if not name.endswith(".service") or state == "inactive":
            continue
        total += 1
        if state == "active":
            active += 1
        elif state == "failed":
            failing.append(clean(name))
    if not found:
        return None
    if total > MAX_SERVICES:
        raise ValueError(f"must be 0 to {MAX_SERVICES:,}, not {total}")
    return _Services(active, total, sorted(failing))


def _version(answer: Exposition) -> str | None:
    for metric, label in ((_BUILD, "version"), *_SYSTEMS):
        for raw, _ in answer.samples(metric):
            version = answer.labels(raw).get(label)
            if version:
                return clean(version)
    return None


def _used_percent(available: float, total: float) -> float:
    percent = 100.0 * (1.0 - available / total) if total else math.nan
    if not 0 <= percent <= 100:
        raise ValueError(f"{available:g} of {total:g} bytes available makes no percentage")
    return percent


def _amount(value: float) -> float:
    if not 0 <= value <= MAX_COUNTER:
        raise ValueError(f"must be 0 to {MAX_COUNTER:,}, not {value:g}")
    return value
