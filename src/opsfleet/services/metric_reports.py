"""From the outcome of a poll to a validated reading, by the agent contract: every value is judged by itself."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from opsfleet.domain.metrics import Counters, Gauges, MetricsCollection, Reading
from opsfleet.polling import FaultKind, Outcome

MAX_COUNTER = 2**63 - 1
MAX_COUNT = 2**31 - 1
MAX_SERVICES = 2**15 - 1
MAX_COST_USD = 9_000_000_000.0
"""Its millionths are whole numbers that a double holds exactly."""

_Percent = Annotated[float, msgspec.Meta(ge=0, le=100)] | None
_Counter = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNTER)] | None
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)] | None
_Services = Annotated[int, msgspec.Meta(ge=0, le=MAX_SERVICES)] | None
_Cost = Annotated[float, msgspec.Meta(ge=0, le=MAX_COST_USD)] | None


class _GoodMetrics(msgspec.Struct):
    """The contract's metrics with the ranges that are stored: what decodes into this needs no further look."""

    cpu_percent: _Percent = None
    memory_percent: _Percent = None
    disk_percent: _Percent = None
    network_rx_bytes: _Counter = None
    network_tx_bytes: _Counter = None
    active_services: _Services = None
    failed_services: _Services = None
    total_services: _Services = None
    llm_requests: _Counter = None
    llm_cost_usd: _Cost = None
    active_users: _Count = None
    total_users: _Count = None


_decode = msgspec.json.Decoder(_GoodMetrics).decode


class NotMetricsError(ValueError):
    """The answer as a whole is not a metrics report; the message says why."""


def collection_of(
    outcome: Outcome, server_id: UUID, minute: datetime, read: Callable[[bytes], Reading]
) -> MetricsCollection | None:
    """Return the collection that `outcome` amounts to, or None when the fault is ours and says nothing of the server.

    `read` turns a body into a reading; it raises `NotMetricsError` when it cannot.
    """
    at = datetime.fromtimestamp(outcome.at, UTC)
    fault = outcome.fault
    if fault is not None:
        if fault.kind is FaultKind.LOCAL:
            return None
        return MetricsCollection(server_id, at, minute, None, fault.message)
    if outcome.status != 200:
        return MetricsCollection(server_id, at, minute, None, f"HTTP {outcome.status}")
    try:
        reading = read(outcome.body)
    except NotMetricsError as problem:
        return MetricsCollection(server_id, at, minute, None, str(problem))
    dropped = f"dropped {'; '.join(reading.problems)}" if reading.problems else None
    return MetricsCollection(server_id, at, minute, reading, dropped)


def read_agent(body: bytes) -> Reading:
    """Return what an agent's answer says.

    Raises:
        NotMetricsError: when it is not a JSON object.
    """
    try:
        good = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_carefully(body)
    cost = good.llm_cost_usd
    return Reading(
        Gauges(
            good.cpu_percent,
            good.memory_percent,
            good.disk_percent,
            good.active_services,
            good.failed_services,
            good.total_services,
            good.active_users,
            good.total_users,
        ),
        Counters(
            good.network_rx_bytes,
            good.network_tx_bytes,
            good.llm_requests,
            None if cost is None else round(cost * 1_000_000),
        ),
    )


def _read_carefully(body: bytes) -> Reading:
    """Keep the good values of an answer that has bad ones. NaN and its like, which JSON lacks, are bad values too."""
    try:
        raw = json.loads(body)
    except RecursionError:
        raise NotMetricsError("not a metrics report: nested too deep") from None
    except UnicodeDecodeError as error:
        raise NotMetricsError(f"not JSON: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NotMetricsError(f"not JSON at byte {len(error.doc[: error.pos].encode())}") from None
    except ValueError as error:  # an integer with thousands of digits
        raise NotMetricsError(f"not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise NotMetricsError(f"not a metrics report: expected an object, got {_kind(raw)}")
    problems: list[str] = []
    values = {name: _value(name, raw, problems) for name in _RULES}
    cost = values["llm_cost_usd"]
    return Reading(
        Gauges(**{name: values[name] for name in Gauges._fields}),
        Counters(
            values["network_rx_bytes"],
            values["network_tx_bytes"],
            values["llm_requests"],
            None if cost is None else round(cost * 1_000_000),
        ),
        tuple(problems),
    )


def _value(name: str, raw: Mapping[str, Any], problems: list[str]) -> Any:
    value = raw.get(name)
    if value is None:
        return None
    whole, most = _RULES[name]
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        problems.append(f"{name}: must be a {'whole ' if whole else ''}number, not {_shown(value)}")
    elif isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{name}: must be finite, not {_shown(value)}")
    elif not 0 <= value <= most:
        problems.append(f"{name}: must be 0 to {most:,}, not {_shown(value)}")
    else:
        return value
    return None


_RULES: Mapping[str, tuple[bool, int]] = {
    "cpu_percent": (False, 100),
    "memory_percent": (False, 100),
    "disk_percent": (False, 100),
    "network_rx_bytes": (True, MAX_COUNTER),
    "network_tx_bytes": (True, MAX_COUNTER),
    "active_services": (True, MAX_SERVICES),
    "failed_services": (True, MAX_SERVICES),
    "total_services": (True, MAX_SERVICES),
    "llm_requests": (True, MAX_COUNTER),
    "llm_cost_usd": (False, int(MAX_COST_USD)),
    "active_users": (True, MAX_COUNT),
    "total_users": (True, MAX_COUNT),
}
"""For each value: whether it is whole, and the largest that is accepted."""


def _kind(value: object) -> str:
    return {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}.get(
        type(value), "null"
    )


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | str):
        return _kind(value)
    text = str(value)
    return text if len(text) <= 30 else f"{text[:30]}…"
