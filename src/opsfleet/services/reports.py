"""From the outcome of a poll to a classified health check, by the agent contract."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID

import msgspec

from opsfleet.domain.health import HEALTHY, HealthCheck, HealthStatus, judge_report
from opsfleet.polling import FaultKind, Outcome
from opsfleet_agent import wire

_UNREACHABLE = frozenset(
    {
        FaultKind.DNS,
        FaultKind.REFUSED,
        FaultKind.RESET,
        FaultKind.NO_ROUTE,
        FaultKind.TLS,
        FaultKind.TIMEOUT,
        FaultKind.TRUNCATED,
        FaultKind.DENIED,
    }
)
_BYTE = re.compile(r"\(byte (\d+)\)")
_PATH = re.compile(r" - at `\$?\.?([^`]*)`")
_MAX_VERSION = 100
_decode = msgspec.json.Decoder(wire.Health).decode


Judge: TypeAlias = Callable[[bytes, UUID, datetime, float | None], HealthCheck]
"""Makes the check of an answer with status 200: of its body, the server, the end of the poll, and its milliseconds."""


def judge_agent(body: bytes, server_id: UUID, at: datetime, milliseconds: float | None) -> HealthCheck:
    """Return the check that an agent's answer amounts to, by the agent contract."""
    try:
        report = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        message, details = _invalid_body(body, error)
        return HealthCheck(
            server_id, at, HealthStatus.CRITICAL, milliseconds, error_message=message, error_details=details
        )
    return _judge(report, server_id, at, milliseconds)


def check_of(outcome: Outcome, server_id: UUID, judge: Judge = judge_agent) -> HealthCheck | None:
    """Return the health check that `outcome` amounts to, or None when the fault is ours and says nothing of the server.

    The status and the sentence are those of the agent contract; `judge` has the word on answers with status 200.
    """
    at = datetime.fromtimestamp(outcome.at, UTC)
    fault = outcome.fault
    if fault is not None:
        if fault.kind is FaultKind.LOCAL:
            return None
        status = HealthStatus.UNREACHABLE if fault.kind in _UNREACHABLE else HealthStatus.CRITICAL
        return HealthCheck(
            server_id, at, status, error_message=fault.message, error_details={"kind": fault.kind.value, **fault.facts}
        )
    milliseconds = outcome.elapsed * 1000 if outcome.elapsed is not None else None
    if outcome.status != 200:
        return HealthCheck(
            server_id,
            at,
            HealthStatus.CRITICAL,
            milliseconds,
            error_message=f"HTTP {outcome.status}",
            error_details={"kind": "http_status", "http_status": outcome.status},
        )
    return judge(outcome.body, server_id, at, milliseconds)


def _judge(report: wire.Health, server_id: UUID, at: datetime, milliseconds: float | None) -> HealthCheck:
    database = report.database.status if report.database is not None else None
    redis = report.redis.status if report.redis is not None else None
    services = report.services
    services_healthy: bool | None = None
    failed = 0
    if services is not None:
        failed = services.failed or 0
        if services.healthy is not None or services.failed is not None:
            services_healthy = services.healthy is not False and failed <= 0
    version = report.version
    if version is not None:
        version = clean(version)
    # Nearly every report is good: that case builds no sentence.
    if (
        (database is None or database == "ok")
        and (redis is None or redis == "ok")
        and services_healthy is not False
        and report.status not in {"critical", "degraded"}
    ):
        verdict = HEALTHY
        details = None
    else:
        failing = [clean(name) for name in (services.failing or [])] if services is not None else []
        verdict = judge_report(
            own_word=report.status,
            database=None if database is None else clean(database),
            redis=None if redis is None else clean(redis),
            services_failed=failed,
            services_total=services.total if services is not None else None,
            services_healthy=services_healthy,
            failing=failing,
        )
        details = _component_facts(verdict.kind, report, failing)
    return HealthCheck(
        server_id,
        at,
        verdict.status,
        milliseconds,
        None if database is None else database == "ok",
        None if redis is None else redis == "ok",
        services_healthy,
        verdict.message,
        details,
        version,
    )


def _component_facts(kind: str, report: wire.Health, failing: list[str]) -> Mapping[str, object]:
    facts: dict[str, object] = {"kind": kind}
    if report.status is not None:
        facts["status"] = clean(report.status)
    for name, component in (("database", report.database), ("redis", report.redis)):
        if component is not None and component.status is not None:
            facts[name] = clean(component.status)
    if report.services is not None:
        facts["services"] = {
            "active": report.services.active,
            "failed": report.services.failed,
            "total": report.services.total,
            "failing": failing[:50],
        }
    return facts


def _invalid_body(body: bytes, error: Exception) -> tuple[str, Mapping[str, object]]:
    """Say where and why `body` is not a health report."""
    if isinstance(error, RecursionError):
        return "not a health report: nested too deep", {"kind": "invalid_body", "reason": "nested too deep"}
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        reason, _, _ = text.partition(" - at ")
        found = _PATH.search(text)
        path = found.group(1) if found else ""
        reason = reason[:1].lower() + reason[1:].replace("`", "")
        where = f" at {path}" if path else ""
        return f"not a health report: {reason}{where}", {"kind": "invalid_body", "path": path, "reason": reason}
    if isinstance(error, UnicodeDecodeError):
        # The decoder counts from the beginning of the text in question.
        at = _not_utf8(body)
        return f"not JSON: not UTF-8 at byte {at}", {"kind": "invalid_body", "byte": at, "reason": "not UTF-8"}
    found = _BYTE.search(text)
    position = int(found.group(1)) if found else len(body)
    return f"not JSON at byte {position}", {"kind": "invalid_body", "byte": position, "reason": text}


def _not_utf8(body: bytes) -> int:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def clean(text: str) -> str:
    """Return text of a server made fit for PostgreSQL and for a line: no null characters, not endless."""
    return text.replace("\x00", "")[:_MAX_VERSION]
