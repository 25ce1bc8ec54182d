"""The bytes of answers, good and bad."""

from functools import lru_cache
from http import HTTPStatus

import msgspec

from opsfleet.simulate.behaviour import Malformed, MetricsReport, Report, Status
from opsfleet_agent import wire

NOT_HTTP = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"
_DEPTH = 20_000


def response(
    body: bytes, status: int = 200, *, keep_alive: bool = True, length: bool = True, headers: bytes = b""
) -> bytes:
    """Return a whole answer. Without `length`, the end of the connection is the end of the body."""
    head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\n" % (status, _phrase(status))
    if length:
        head += b"Content-Length: %d\r\n" % len(body)
    if not keep_alive or not length:
        head += b"Connection: close\r\n"
    return head + headers + b"\r\n" + body


def failure(status: Status) -> tuple[bytes, bytes]:
    """Return the body and the additional headers of an answer with such a status."""
    location = b"" if status.location is None else b"Location: %b\r\n" % status.location.encode("latin-1", "replace")
    return msgspec.json.encode({"error": _phrase(status.code).decode()}), location


def reported_health(body: bytes, report: Report) -> bytes:
    """Return the body of `/health` with what `report` says."""
    health = wire.health_decoder.decode(body)
    if report.status is not None:
        health.status = report.status
    if report.database is not None:
        health.database = wire.ComponentHealth(status=report.database)
    if report.redis is not None:
        health.redis = wire.ComponentHealth(status=report.redis)
    if report.failed_services is not None and health.services is not None:
        total = health.services.total or 0
        failed = min(report.failed_services, total)
        failing = [f"service-{number}" for number in range(1, failed + 1)]
        health.services = wire.ServicesHealth(
            healthy=failed == 0, active=total - failed, failed=failed, total=total, failing=failing
        )
    return wire.encode(health)


def reported_metrics(body: bytes, report: Report | None, metrics: MetricsReport | None) -> bytes:
    """Return the body of the metrics with what `report` and `metrics` say."""
    values = wire.decode_object(body)
    if report is not None and report.failed_services is not None:
        total = values["total_services"]
        failed = min(report.failed_services, total)
        values.update(failed_services=failed, active_services=total - failed)
    if metrics is not None:
        values.update(wire.decode_object(wire.encode(metrics)))
    return wire.encode(values)


def malformed(body: bytes, how: Malformed, endpoint: str) -> bytes:
    """Return what comes instead of `body`."""
    if how == "truncated":
        return body[: len(body) // 2]
    if how == "wrong-types":
        return _WRONG_TYPES.get(endpoint, body)
    if how == "nan":
        return _NAN.get(endpoint, body)
    return _bad_body(how)


@lru_cache
def _bad_body(how: Malformed) -> bytes:
    if how == "not-json":
        return b"<!doctype html><title>Sign in</title><form action=/login></form>"
    if how == "too-large":
        return b'{"status":"ok","padding":"%b"}' % (b"x" * wire.MAX_BODY_BYTES)
    if how == "deep":
        return b'{"status":"ok","database":%b%b}' % (b'{"a":' * _DEPTH + b"1", b"}" * _DEPTH)
    return b""


@lru_cache
def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"


_WRONG_TYPES = {
    "health": b'{"status":7,"uptime_seconds":"long","database":"fine","services":[1,2]}',
    "metrics": b'{"cpu_percent":"high","memory_percent":-3,"disk_percent":140.5,"network_rx_bytes":1.5,'
    b'"active_services":true,"llm_requests":[],"total_users":12}',
}
_NAN = {
    "health": b'{"status":"ok","uptime_seconds":NaN}',
    "metrics": b'{"cpu_percent":NaN,"memory_percent":Infinity,"disk_percent":50.0}',
}
