"""What a metrics collection found, how counters become increases, and the periods that history is kept in."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

MINUTE = timedelta(minutes=1)


class Period(StrEnum):
    """The length of time that one row of metrics stands for; each is rolled up from the one before it."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"

    @property
    def length(self) -> timedelta:
        """How long the period is."""
        return _LENGTHS[self.value]

    @property
    def finer(self) -> "Period | None":
        """The period that this one is rolled up from; None for minutes, which are collected."""
        position = _ORDER.index(self)
        return _ORDER[position - 1] if position else None

    @property
    def coarser(self) -> "Period | None":
        """The period that is rolled up from this one."""
        position = _ORDER.index(self)
        return _ORDER[position + 1] if position + 1 < len(_ORDER) else None

    def start_of(self, moment: datetime) -> datetime:
        """Return the start (UTC) of the bucket of this period that `moment` (aware) lies in."""
        since = moment - _EPOCH
        return _EPOCH + since // self.length * self.length


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LENGTHS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
_ORDER = tuple(Period)


class Counters(NamedTuple):
    """Raw values of what only grows, as a server reports them; null where it never did.

    Costs are whole millionths of a dollar, so that sums are exact. The CPU's times (seconds since the machine's start)
    are there for servers that report times instead of a percentage.
    """

    network_rx_bytes: int | None = None
    network_tx_bytes: int | None = None
    llm_requests: int | None = None
    llm_cost_microusd: int | None = None
    cpu_idle_seconds: float | None = None
    cpu_total_seconds: float | None = None


NO_COUNTERS = Counters()


class Gauges(NamedTuple):
    """Values of the moment. Percentages are 0 to 100; null where the server has none or the value was dropped."""

    cpu_percent: float | None = None
    memory_percent: float | None = None
    disk_percent: float | None = None
    active_services: int | None = None
    failed_services: int | None = None
    total_services: int | None = None
    active_users: int | None = None
    total_users: int | None = None


class Reading(NamedTuple):
    """What one answer to a metrics collection says. `problems` names each value that was dropped, and why."""

    gauges: Gauges
    counters: Counters
    problems: Sequence[str] = ()

    @property
    def value_count(self) -> int:
        """How many values were found good."""
        gauges = sum(value is not None for value in self.gauges)
        counters = sum(value is not None for value in self.counters[:4])
        return gauges + counters


class LastCollection(NamedTuple):
    """What is remembered of a server's last collection. `minute` is that of its newest row."""

    collected_at: datetime | None
    minute: datetime | None
    counters: Counters
    error: str | None


NEVER_COLLECTED = LastCollection(None, None, NO_COUNTERS, None)


class Increases(NamedTuple):
    """What was added to each counter since the last collection; null when there is nothing to compare with."""

    network_rx_bytes: int | None
    network_tx_bytes: int | None
    llm_requests: int | None
    llm_cost_microusd: int | None


def increase(before: int | None, now: int | None) -> int | None:
    """Return what a counter grew by from `before` to `now`.

    A counter that went down has restarted at zero, so all of `now` is new. Null when either is unknown.
    """
    if before is None or now is None:
        return None
    return now - before if now >= before else now


def increases(before: Counters, now: Counters) -> Increases:
    """Return what each counter grew by.

    Where the CPU's times went on, the machine did not restart: bytes that went down all the same are a sum that lost a
    network device, and what they grew by is not known.
    """
    cpu_before, cpu_now = before.cpu_total_seconds, now.cpu_total_seconds
    ran_on = cpu_before is not None and cpu_now is not None and cpu_now >= cpu_before
    network = _increase_of_sum if ran_on else increase
    return Increases(
        network(before.network_rx_bytes, now.network_rx_bytes),
        network(before.network_tx_bytes, now.network_tx_bytes),
        increase(before.llm_requests, now.llm_requests),
        increase(before.llm_cost_microusd, now.llm_cost_microusd),
    )


def _increase_of_sum(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None or now < before else now - before


def carried_on(before: Counters, now: Counters) -> Counters:
    """Return the raw values to remember: a value that is missing now is kept, so that nothing is lost meanwhile."""
    for old, new in zip(before, now, strict=True):
        if new is None and old is not None:
            break
    else:
        return now
    return before._replace(**{name: new for name, new in now._asdict().items() if new is not None})


def busy_percent(before: Counters, now: Counters) -> float | None:
    """Return the CPU's busy share in percent between two readings of its times; null when it cannot be told.

    100 less the idle share of all CPU time, as `100 - avg(rate(node_cpu_seconds_total{mode="idle"})) * 100` has it.
    """
    if before.cpu_idle_seconds is None or before.cpu_total_seconds is None:
        return None
    if now.cpu_idle_seconds is None or now.cpu_total_seconds is None:
        return None
    total = now.cpu_total_seconds - before.cpu_total_seconds
    idle = now.cpu_idle_seconds - before.cpu_idle_seconds
    if total <= 0 or idle < 0:
        return None
    return min(100.0, max(0.0, 100.0 * (1.0 - idle / total)))


class MetricsCollection:
    """One metrics collection of a server, as it is to be recorded.

    `at` is the end of the request (UTC), `minute` the start of the minute that its row stands for. Without a `reading`
    the collection failed, and `error` says why. A mutable class with slots, because ten thousands are made each minute.
    """

    __slots__ = ("at", "error", "minute", "reading", "server_id")

    def __init__(
        self, server_id: UUID, at: datetime, minute: datetime, reading: Reading | None, error: str | None
    ) -> None:
        self.server_id = server_id
        self.at = at
        self.minute = minute
        self.reading = reading
        self.error = error

    def __repr__(self) -> str:
        return f"<MetricsCollection {self.server_id} {self.minute}: {self.error or 'ok'}>"


def minute_of(moment: datetime) -> datetime:
    """Return the start of the minute that `moment` lies in."""
    return moment.replace(second=0, microsecond=0)
