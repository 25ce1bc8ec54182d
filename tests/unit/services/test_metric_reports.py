"""Every value of a metrics report is judged by itself: the bad one is dropped and named, the others are kept."""

import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsfleet.domain.metrics import Counters, Gauges
from opsfleet.polling import Fault, FaultKind, Outcome, Target
from opsfleet.services.metric_reports import NotMetricsError, collection_of, read_agent

SERVER = UUID(int=1)
NOW = datetime(2028, 2, 29, 12, 30, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "cpu_percent": 12.5,
    "memory_percent": 44.1,
    "disk_percent": 61,
    "network_rx_bytes": 123456789,
    "network_tx_bytes": 98765432,
    "active_services": 11,
    "failed_services": 1,
    "total_services": 12,
    "llm_requests": 1234,
    "llm_cost_usd": 12.340021,
    "active_users": 5,
    "total_users": 90,
}


def body_with(name: str, value: str) -> bytes:
    """Return a good report in which one value is replaced by some text."""
    return msgspec.json.encode({**GOOD, name: "@"}).replace(b'"@"', value.encode())


def values_of(gauges: Gauges, counters: Counters) -> dict[str, Any]:
    found = {**gauges._asdict(), **counters._asdict()}
    cost = found.pop("llm_cost_microusd")
    found["llm_cost_usd"] = None if cost is None else cost / 1_000_000
    return {name: found[name] for name in GOOD}


def test_a_good_report_is_taken_whole() -> None:
    reading = read_agent(msgspec.json.encode(GOOD))
    assert values_of(reading.gauges, reading.counters) == GOOD
    assert (reading.problems, reading.value_count) == ((), 12)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("cpu_percent", '"12.5"', "cpu_percent: must be a number, not text"),
        ("cpu_percent", "true", "cpu_percent: must be a number, not True"),
        ("cpu_percent", "[1]", "cpu_percent: must be a number, not a list"),
        ("cpu_percent", '{"a": 1}', "cpu_percent: must be a number, not an object"),
        ("cpu_percent", "NaN", "cpu_percent: must be finite, not nan"),
        ("cpu_percent", "Infinity", "cpu_percent: must be finite, not inf"),
        ("cpu_percent", "1e400", "cpu_percent: must be finite, not inf"),
        ("cpu_percent", "-1e400", "cpu_percent: must be finite, not -inf"),
        ("memory_percent", "100.001", "memory_percent: must be 0 to 100, not 100.001"),
        ("disk_percent", "-0.1", "disk_percent: must be 0 to 100, not -0.1"),
        ("network_rx_bytes", "-1", "network_rx_bytes: must be 0 to 9,223,372,036,854,775,807, not -1"),
        (
            "network_rx_bytes",
            "9223372036854775808",
            "network_rx_bytes: must be 0 to 9,223,372,036,854,775,807, not 9223372036854775808",
        ),
        ("network_tx_bytes", "1.5", "network_tx_bytes: must be a whole number, not 1.5"),
        ("active_services", "40000", "active_services: must be 0 to 32,767, not 40000"),
        ("llm_requests", "1e3", "llm_requests: must be a whole number, not 1000.0"),
        ("llm_cost_usd", "-0.01", "llm_cost_usd: must be 0 to 9,000,000,000, not -0.01"),
        ("total_users", "2147483648", "total_users: must be 0 to 2,147,483,647, not 2147483648"),
    ],
)
def test_a_bad_value_is_dropped_and_named_and_the_others_are_kept(name: str, value: str, problem: str) -> None:
    reading = read_agent(body_with(name, value))
    assert values_of(reading.gauges, reading.counters) == {**GOOD, name: None}
    assert list(reading.problems) == [problem]
    assert reading.value_count == 11


@pytest.mark.parametrize(
    "body", [b"{}", b'{"cpu_percent": null, "zzz": [1, {"a": 2}], "llm_requests": null}', b'{"unknown": 1e400}']
)
def test_absent_and_unknown_keys_are_no_fault(body: bytes) -> None:
    reading = read_agent(body)
    assert (reading.gauges, reading.counters, tuple(reading.problems)) == (Gauges(), Counters(), ())


def test_the_largest_counter_is_still_good() -> None:
    assert read_agent(b'{"llm_requests": 9223372036854775807}').counters.llm_requests == 2**63 - 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[1, 2]", "not a metrics report: expected an object, got a list"),
        (b"12", "not a metrics report: expected an object, got a number"),
        (b"null", "not a metrics report: expected an object, got null"),
        (b'"text"', "not a metrics report: expected an object, got text"),
        (b"", "not JSON at byte 0"),
        (b'{"cpu_percent": 1', "not JSON at byte 17"),
        ('{"é": 1, }'.encode(), "not JSON at byte 10"),
        (b'{"a": NaN, "b": "\xff"}', "not JSON: not UTF-8 at byte 17"),
        (b'{"a":' * 50_000, "not a metrics report: nested too deep"),
    ],
)
def test_what_is_no_report_at_all_says_why(body: bytes, message: str) -> None:
    with pytest.raises(NotMetricsError) as caught:
        read_agent(body)
    assert str(caught.value) == message


numbers = st.one_of(st.floats(), st.integers(), st.none(), st.booleans(), st.text(max_size=5), st.just([]))


@given(st.dictionaries(st.sampled_from([*GOOD, "other"]), numbers))
def test_whatever_is_stored_is_in_range(raw: dict[str, Any]) -> None:
    import json

    reading = read_agent(json.dumps(raw).encode())
    for name, value in values_of(reading.gauges, reading.counters).items():
        if value is None:
            given_value = raw.get(name)
            assert given_value is None or any(problem.startswith(f"{name}: ") for problem in reading.problems)
        else:
            assert not isinstance(value, bool)
            assert math.isfinite(value)
            assert value >= 0


def outcome(status: int = 200, body: bytes = b"{}", fault: Fault | None = None) -> Outcome:
    target = Target(SERVER, "127.0.0.1", 1, False)
    return Outcome(target, "/api/v1/metrics/current", NOW.timestamp(), 0.01, status, body, fault)


def test_a_collection_carries_its_error() -> None:
    dropped = collection_of(outcome(body=b'{"cpu_percent": 101, "total_users": -1}'), SERVER, NOW, read_agent)
    assert dropped is not None
    assert dropped.reading is not None
    assert dropped.error == (
        "dropped cpu_percent: must be 0 to 100, not 101; total_users: must be 0 to 2,147,483,647, not -1"
    )
    refused = collection_of(outcome(0, b"", Fault(FaultKind.REFUSED, "connection refused")), SERVER, NOW, read_agent)
    assert refused is not None
    assert (refused.reading, refused.error) == (None, "connection refused")
    forbidden = collection_of(outcome(401), SERVER, NOW, read_agent)
    assert forbidden is not None
    assert (forbidden.reading, forbidden.error) == (None, "HTTP 401")
    assert collection_of(outcome(0, b"", Fault(FaultKind.LOCAL, "no room")), SERVER, NOW, read_agent) is None
