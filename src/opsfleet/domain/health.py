"""What a health check found, and how the parts of a report make one verdict."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class HealthStatus(StrEnum):
    """What we observed of a server."""

    # An enumeration's own hash is a function in Python; this one is looked up ten thousand times a second.
    __hash__ = str.__hash__

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    UNREACHABLE = "unreachable"


class HealthCheck:
    """One request to `/health`, classified.

    `timestamp` is the end of the check (UTC). `response_time_ms` is null without an answer. The three component fields
    are null when the server has no such component or said nothing. `error_message` is one sentence; `error_details`
    holds the kind and the facts. A mutable class with slots, because ten thousands are made each second.
    """

    __slots__ = (
        "database_healthy",
        "error_details",
        "error_message",
        "redis_healthy",
        "response_time_ms",
        "server_id",
        "services_healthy",
        "status",
        "timestamp",
        "version",
    )

    def __init__(
        self,
        server_id: UUID,
        timestamp: datetime,
        status: HealthStatus,
        response_time_ms: float | None = None,
        database_healthy: bool | None = None,
        redis_healthy: bool | None = None,
        services_healthy: bool | None = None,
        error_message: str | None = None,
        error_details: Mapping[str, object] | None = None,
        version: str | None = None,
    ) -> None:
        self.server_id = server_id
        self.timestamp = timestamp
        self.status = status
        self.response_time_ms = response_time_ms
        self.database_healthy = database_healthy
        self.redis_healthy = redis_healthy
        self.services_healthy = services_healthy
        self.error_message = error_message
        self.error_details = error_details
        self.version = version

    @property
    def answered(self) -> bool:
        """Whether the server answered and could be classified."""
        return self.status is not HealthStatus.UNREACHABLE

    def __repr__(self) -> str:
        return f"<HealthCheck {self.server_id} {self.status}: {self.error_message}>"


class Verdict:
    """The status that a report amounts to, and why; `message` is null when healthy."""

    __slots__ = ("kind", "message", "status")

    def __init__(self, status: HealthStatus, kind: str, message: str | None) -> None:
        self.status = status
        self.kind = kind
        self.message = message


HEALTHY = Verdict(HealthStatus.HEALTHY, "ok", None)


def judge_report(
    *,
    own_word: str | None,
    database: str | None,
    redis: str | None,
    services_failed: int,
    services_total: int | None,
    services_healthy: bool | None,
    failing: Sequence[str],
) -> Verdict:
    """Return the verdict on a well-formed report, by the table of the agent contract.

    `own_word` is the report's top-level status, `database` and `redis` are the components' status words (null: none),
    and it counts only when it is worse than what the parts say.
    """
    down = [
        f"{name} is {_word(status)}"
        for name, status in (("database", database), ("redis", redis))
        if status is not None and status != "ok"
    ]
    if down:
        return Verdict(HealthStatus.CRITICAL, "component", " and ".join(down))
    if own_word == "critical":
        return Verdict(HealthStatus.CRITICAL, "reported", "the server reports itself critical")
    if services_healthy is False or services_failed > 0:
        return Verdict(HealthStatus.DEGRADED, "services", _services(services_failed, services_total, failing))
    if own_word == "degraded":
        return Verdict(HealthStatus.DEGRADED, "reported", "the server reports itself degraded")
    return HEALTHY


def _word(status: str) -> str:
    word = status.strip()[:50]
    return f'"{word}"' if word else "not ok"


def _services(failed: int, total: int | None, failing: Sequence[str]) -> str:
    names = list_names(failing)
    if failed <= 0:
        return f"services are not healthy: {names}" if names else "services are not healthy"
    noun = "service" if failed == 1 and total is None else "services"
    count = f"{failed} of {total} {noun} failed" if total else f"{failed} {noun} failed"
    return f"{count}: {names}" if names else count


def list_names(names: Sequence[str], most: int = 5) -> str:
    """Return at most `most` names joined by commas, then "and N more"."""
    shown = ", ".join(name[:100] for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
