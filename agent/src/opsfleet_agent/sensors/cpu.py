"""How busy the processors are."""

import time
from collections.abc import Callable

import psutil


class CpuSensor:
    """The share of time that the processors worked since the last sample, in percent of all of them together.

    Nothing waits: the interval is the one between two calls. Calls within `shortest` seconds of a sample get its
    value, because ticks of 10 ms say little about less.
    """

    def __init__(self, *, shortest: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._shortest = shortest
        self._clock = clock
        self._taken_at = clock()
        self._last = _busy_and_total()
        self._percent: float | None = None

    def measure(self) -> float | None:
        """Return the percentage, or None until there is an interval to measure over."""
        now = self._clock()
        if now - self._taken_at < self._shortest:
            return self._percent
        sample = _busy_and_total()
        if sample is None or self._last is None:
            self._percent = None
        else:
            busy, total = sample[0] - self._last[0], sample[1] - self._last[1]
            if total > 0:
                # iowait may go down (proc(5)), so the quotient may leave the range by a little.
                self._percent = round(min(max(100.0 * busy / total, 0.0), 100.0), 1)
        self._taken_at, self._last = now, sample
        return self._percent


def _busy_and_total() -> tuple[float, float] | None:
    try:
        times = psutil.cpu_times()
    except (OSError, RuntimeError, ValueError):
        return None
    # user and nice already contain guest and guest_nice: proc_stat(5).
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total
