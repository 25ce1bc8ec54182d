"""Each answer of an agent gets the status and the sentence of the agent contract."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsfleet.domain.health import HealthCheck, HealthStatus
from opsfleet.domain.ids import new_id
from opsfleet.polling import Fault, FaultKind, Outcome, Target
from opsfleet.services.reports import check_of

SERVER = new_id()
TARGET = Target(SERVER, "127.0.0.1", 9100, tls=False)

GOOD: dict[str, Any] = {
    "status": "ok",
    "version": "3.3.0",
    "hostname": "prod-east-1",
    "uptime_seconds": 123456,
    "database": {"status": "ok", "latency_ms": 1.2},
    "redis": {"status": "ok", "latency_ms": 0.4},
    "services": {"healthy": True, "active": 12, "failed": 0, "total": 12, "failing": []},
}


def judged(body: bytes | dict[str, Any], status: int = 200) -> HealthCheck:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    check = check_of(Outcome(TARGET, "/health", 1_700_000_000.0, 0.0125, status, raw, None), SERVER)
    assert check is not None
    return check


def test_a_good_report_is_healthy() -> None:
    check = judged(GOOD)
    assert check.status is HealthStatus.HEALTHY
    assert (check.database_healthy, check.redis_healthy, check.services_healthy) == (True, True, True)
    assert (check.error_message, check.error_details) == (None, None)
    assert check.response_time_ms == 12.5
    assert check.version == "3.3.0"


@pytest.mark.parametrize("report", [{}, {"status": "ok"}, {"database": None, "redis": None, "services": None}])
def test_absent_components_count_for_nothing(report: dict[str, Any]) -> None:
    check = judged(report)
    assert check.status is HealthStatus.HEALTHY
    assert (check.database_healthy, check.redis_healthy, check.services_healthy) == (None, None, None)


def test_unknown_keys_are_ignored() -> None:
    assert judged({**GOOD, "more": {"a": [1, 2]}}).status is HealthStatus.HEALTHY


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"database": {"status": "down"}}, "critical", 'database is "down"'),
        ({"redis": {"status": "loading"}}, "critical", 'redis is "loading"'),
        ({"database": {"status": ""}}, "critical", "database is not ok"),
        ({"services": {"healthy": False}}, "degraded", "services are not healthy"),
        (
            {"services": {"failed": 1, "total": 12, "failing": ["nginx"]}},
            "degraded",
            "1 of 12 services failed: nginx",
        ),
        ({"services": {"healthy": True, "failed": 2}}, "degraded", "2 services failed"),
        ({"status": "critical"}, "critical", "the server reports itself critical"),
        ({"status": "degraded"}, "degraded", "the server reports itself degraded"),
    ],
)
def test_what_a_report_amounts_to(change: dict[str, Any], status: str, message: str) -> None:
    check = judged({**GOOD, **change})
    assert check.status == status
    assert check.error_message == message
    assert check.error_details is not None


def test_the_top_level_status_counts_only_when_it_is_worse() -> None:
    down = {"database": {"status": "down"}, "status": "degraded"}
    assert judged({**GOOD, **down}).status is HealthStatus.CRITICAL
    failing = {"services": {"failed": 1}, "status": "critical"}
    assert judged({**GOOD, **failing}).status is HealthStatus.CRITICAL


@pytest.mark.parametrize("status", [204, 301, 304, 401, 403, 404, 500, 503])
def test_any_other_http_status_is_critical(status: int) -> None:
    check = judged(GOOD, status)
    assert check.status is HealthStatus.CRITICAL
    assert check.error_message == f"HTTP {status}"
    assert check.error_details == {"kind": "http_status", "http_status": status}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON at byte 0"),
        (b'{"status": "ok"', "not JSON at byte 15"),
        (b'{"uptime_seconds": NaN}', "not JSON at byte 19"),
        (b"<html>", "not JSON at byte 0"),
        (b'{"status": "\xff\xfe"}', "not JSON: not UTF-8 at byte 12"),
        (b'{"version": "\xc3\xa9\xe2\x82"}', "not JSON: not UTF-8 at byte 15"),
        (b'{"services": {"failing": ["ok", "\xe9"]}}', "not JSON: not UTF-8 at byte 33"),
        (b"[]", "not a health report: expected object, got array"),
        (b"null", "not a health report: expected object, got null"),
        (b'{"status": 5}', "not a health report: expected str | null, got int at status"),
        (b'{"services": {"failed": "many"}}', "not a health report: expected int | null, got str at services.failed"),
        (b'{"services": {"failing": [1]}}', "not a health report: expected str, got int at services.failing[0]"),
        (b'{"a":' * 100_000, "not a health report: nested too deep"),
        (b'{"uptime_seconds": 1e400}', "not a health report: number out of range at uptime_seconds"),
    ],
)
def test_a_body_that_is_no_report_is_critical_and_says_where(body: bytes, message: str) -> None:
    check = judged(body)
    assert check.status is HealthStatus.CRITICAL
    assert check.error_message is not None
    assert check.error_message.startswith(message)
    assert check.error_details is not None
    assert check.error_details["kind"] == "invalid_body"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FaultKind.DNS, "unreachable"),
        (FaultKind.REFUSED, "unreachable"),
        (FaultKind.RESET, "unreachable"),
        (FaultKind.TLS, "unreachable"),
        (FaultKind.TIMEOUT, "unreachable"),
        (FaultKind.TRUNCATED, "unreachable"),
        (FaultKind.NO_ROUTE, "unreachable"),
        (FaultKind.DENIED, "unreachable"),
        (FaultKind.TOO_LARGE, "critical"),
        (FaultKind.PROTOCOL, "critical"),
    ],
)
def test_faults(kind: FaultKind, status: str) -> None:
    fault = Fault(kind, "what happened", {"fact": 1})
    check = check_of(Outcome(TARGET, "/health", 0.0, None, 0, b"", fault), SERVER)
    assert check is not None
    assert check.status == status
    assert check.error_message == "what happened"
    assert check.error_details == {"kind": kind.value, "fact": 1}
    assert check.response_time_ms is None


def test_a_fault_of_our_own_says_nothing_of_the_server() -> None:
    fault = Fault(FaultKind.LOCAL, "no descriptors")
    assert check_of(Outcome(TARGET, "/health", 0.0, None, 0, b"", fault), SERVER) is None


def test_text_from_a_server_is_made_fit_for_storage() -> None:
    check = judged({"version": "1\u0000" + "x" * 1_000, "services": {"failed": 1, "failing": ["a\u0000b"] * 200}})
    assert check.version is not None
    assert "\x00" not in check.version
    assert len(check.version) <= 100
    assert check.error_message is not None
    assert "\x00" not in json.dumps(check.error_details)
    assert "and 195 more" in check.error_message


@given(body=st.binary(max_size=200))
def test_no_body_breaks_the_judge(body: bytes) -> None:
    check = judged(body)
    assert (check.status is HealthStatus.CRITICAL) == (check.error_message is not None)


@given(
    report=st.fixed_dictionaries(
        {},
        optional={
            "status": st.sampled_from(["ok", "degraded", "critical", "fine", None]),
            "database": st.none() | st.fixed_dictionaries({"status": st.sampled_from(["ok", "down"])}),
            "redis": st.none() | st.fixed_dictionaries({"status": st.sampled_from(["ok", "down"])}),
            "services": st.none() | st.fixed_dictionaries({"failed": st.integers(0, 3)}),
        },
    )
)
def test_the_verdict_is_the_worst_of_the_parts(report: dict[str, Any]) -> None:
    components = [report.get("database"), report.get("redis")]
    expected = HealthStatus.HEALTHY
    if (report.get("services") or {}).get("failed") or report.get("status") == "degraded":
        expected = HealthStatus.DEGRADED
    if any(part and part["status"] != "ok" for part in components) or report.get("status") == "critical":
        expected = HealthStatus.CRITICAL
    assert judged(report).status is expected
