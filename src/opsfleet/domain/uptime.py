"""How long a server was in which health over a range of time, and how long nobody looked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter

from opsfleet.domain.health import HealthStatus

UNMONITORED = "unmonitored"

_UP = (HealthStatus.HEALTHY, HealthStatus.DEGRADED)


@dataclass(frozen=True, slots=True)
class Uptime:
    """`spent` has the time in each health and in `UNMONITORED`; together they are exactly the range."""

    start: datetime
    end: datetime
    spent: Mapping[str, timedelta]

    @property
    def percent(self) -> float | None:
        """The share (0 to 100) of the monitored time in which the server was up; null when none was monitored."""
        monitored = self.end - self.start - self.spent[UNMONITORED]
        if not monitored:
            return None
        return 100 * (sum((self.spent[status] for status in _UP), timedelta()) / monitored)


def gap_after(interval: float) -> timedelta:
    """Return how long after a check the next may come, at the latest, for the time between to count as monitored.

    Three health intervals (`interval` in seconds), and at least 10 s more than one, so that a slow cycle is no gap.
    """
    return timedelta(seconds=max(3 * interval, interval + 10))


def uptime(
    start: datetime,
    end: datetime,
    changes: Iterable[tuple[datetime, HealthStatus]],
    gaps: Iterable[tuple[datetime, datetime]],
) -> Uptime:
    """Return what became of the time in `[start, end)`.

    `changes` say since when which health held, oldest first; before the first, nobody looked. `gaps` are the times in
    which nobody looked, in any order; they may overlap each other and the ends of the range.
    """
    events: list[tuple[datetime, int, HealthStatus | None]] = [(at, 0, status) for at, status in changes]
    for since, until in gaps:
        if since < until:
            events += [(since, 1, None), (until, -1, None)]
    events.sort(key=itemgetter(0))
    spent: dict[str, timedelta] = dict.fromkeys((*(status.value for status in HealthStatus), UNMONITORED), timedelta())
    moment, health, open_gaps = start, UNMONITORED, 0
    for at, step, status in events:
        now = min(max(at, start), end)
        spent[UNMONITORED if open_gaps else health] += now - moment
        moment = now
        open_gaps += step
        if status is not None:
            health = status.value
    spent[UNMONITORED if open_gaps else health] += end - moment
    return Uptime(start, end, spent)
