"""An organization's servers as gauges in Prometheus' text format.

Names and units follow https://prometheus.io/docs/practices/naming/: seconds, and ratios from 0 to 1. The text is put
together here because the client library takes five times as long, and in one piece, on the loop that polls.
"""

import asyncio
from collections.abc import Callable, Iterator

from opsfleet.domain.health import HealthStatus
from opsfleet.services.fleet_gauges import FleetGauges
from opsfleet.store.fleet_gauges import ServerGauges

_LINES_AT_ONCE = 2_000

Read = Callable[[ServerGauges], float | None]

_OF_SERVERS: tuple[tuple[str, str, Read], ...] = (
    ("response_seconds", "Response time of the last health check.", lambda one: _share(one.response_time_ms, 1_000)),
    ("cpu_ratio", "Busy share of the CPU.", lambda one: _share(one.cpu_percent, 100)),
    ("memory_ratio", "Used share of the memory.", lambda one: _share(one.memory_percent, 100)),
    ("disk_ratio", "Used share of the disk.", lambda one: _share(one.disk_percent, 100)),
    ("services", "Services that are there.", lambda one: one.total_services),
    ("services_active", "Services that run.", lambda one: one.active_services),
    ("services_failed", "Services that failed.", lambda one: one.failed_services),
    ("users", "Users that are there.", lambda one: one.total_users),
    ("users_active", "Users that are active.", lambda one: one.active_users),
    (
        "last_seen_timestamp_seconds",
        "When the server last answered a health check.",
        lambda one: one.last_seen_at.timestamp() if one.last_seen_at is not None else None,
    ),
)


async def exposition_of(gauges: FleetGauges) -> bytes:
    """Return the gauges as text; lets other work on the loop go on while it is put together."""
    parts: list[str] = []
    for number, line in enumerate(_lines(gauges), 1):
        parts.append(line)
        if number % _LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
    return "".join(parts).encode()


def _lines(gauges: FleetGauges) -> Iterator[str]:
    yield _head("opsfleet_servers", "Servers by status and health.")
    for status, health, count in gauges.counts:
        yield f'opsfleet_servers{{status="{status.value}",health="{health or "unknown"}"}} {count}\n'
    yield _head("opsfleet_servers_left_out", "Active servers that have no gauges here, because there are too many.")
    yield f"opsfleet_servers_left_out {gauges.left_out}\n"
    for name, percent in gauges.averages._asdict().items():
        what = name.removesuffix("_percent")
        yield _head(f"opsfleet_fleet_{what}_ratio", f"Average of {what} over all servers, in the last minute.")
        if percent is not None:
            yield f"opsfleet_fleet_{what}_ratio {percent / 100:.6g}\n"
    labels = [_labels(server) for server in gauges.servers]
    yield _head("opsfleet_server_health", "1 for the health that a server has, 0 for the others.")
    for server, known in zip(gauges.servers, labels, strict=True):
        for health in HealthStatus:
            yield f'opsfleet_server_health{{{known},health="{health.value}"}} {int(health is server.health_status)}\n'
    for name, text, read in _OF_SERVERS:
        yield _head(f"opsfleet_server_{name}", text)
        for server, known in zip(gauges.servers, labels, strict=True):
            value = read(server)
            if value is not None:
                yield f"opsfleet_server_{name}{{{known}}} {value}\n"


def _head(name: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n"


def _labels(server: ServerGauges) -> str:
    return (
        f'server="{_escaped(server.name)}",server_id="{server.id}",'
        f'region="{_escaped(server.region or "")}",environment="{_escaped(server.environment or "")}"'
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _share(value: float | None, whole: float) -> float | None:
    """Return `value` divided by `whole`, with no more digits than four-byte numbers have."""
    return None if value is None else float(f"{value / whole:.7g}")
