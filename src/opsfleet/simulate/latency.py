"""How long an answer takes: distributions in milliseconds, drawn with a given generator."""

from itertools import pairwise
from math import exp, log
from random import Random

import msgspec

_Z99 = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""


class Distribution(msgspec.Struct, frozen=True, tag_field="shape", forbid_unknown_fields=True):
    """Draws a latency."""

    def seconds(self, random: Random) -> float:
        """Return a latency in seconds, 0 or more."""
        raise NotImplementedError


class Constant(Distribution, frozen=True, tag="constant"):
    """Always `ms`."""

    ms: float

    def __post_init__(self) -> None:
        _check(self.ms >= 0, "ms must be 0 or more")

    def seconds(self, random: Random) -> float:
        """Return `ms` in seconds."""
        return self.ms / 1000


class Uniform(Distribution, frozen=True, tag="uniform"):
    """Evenly from `min_ms` to `max_ms`."""

    min_ms: float
    max_ms: float

    def __post_init__(self) -> None:
        _check(0 <= self.min_ms <= self.max_ms, "0 <= min_ms <= max_ms must hold")

    def seconds(self, random: Random) -> float:
        """Draw a latency in seconds."""
        return random.uniform(self.min_ms, self.max_ms) / 1000


class Normal(Distribution, frozen=True, tag="normal"):
    """A bell around `mean_ms`, cut off at 0."""

    mean_ms: float
    deviation_ms: float

    def __post_init__(self) -> None:
        _check(self.mean_ms >= 0 and self.deviation_ms >= 0, "mean_ms and deviation_ms must be 0 or more")

    def seconds(self, random: Random) -> float:
        """Draw a latency in seconds."""
        return max(0.0, random.gauss(self.mean_ms, self.deviation_ms)) / 1000


class LogNormal(Distribution, frozen=True, tag="lognormal"):
    """The usual shape of response times, given by its median and its 99th percentile."""

    median_ms: float
    p99_ms: float

    def __post_init__(self) -> None:
        _check(0 < self.median_ms <= self.p99_ms, "0 < median_ms <= p99_ms must hold")

    def seconds(self, random: Random) -> float:
        """Draw a latency in seconds."""
        return self.median_ms * exp(random.gauss(0.0, log(self.p99_ms / self.median_ms) / _Z99)) / 1000


class Pareto(Distribution, frozen=True, tag="pareto"):
    """At least `min_ms`, with a heavy tail: `p99_ms` is the 99th percentile, and `max_ms` ends the tail."""

    min_ms: float
    p99_ms: float
    max_ms: float = 60_000.0

    def __post_init__(self) -> None:
        _check(0 < self.min_ms < self.p99_ms <= self.max_ms, "0 < min_ms < p99_ms <= max_ms must hold")

    def seconds(self, random: Random) -> float:
        """Draw a latency in seconds."""
        # P(X > x) = (min / x) ** alpha, which is 0.01 at p99.
        alpha = log(100) / log(self.p99_ms / self.min_ms)
        return min(self.max_ms, self.min_ms * random.paretovariate(alpha)) / 1000


class Percentiles(Distribution, frozen=True, tag="percentiles"):
    """A measured distribution, straight lines between its percentiles."""

    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float

    def __post_init__(self) -> None:
        known = (0.0, self.min_ms, self.p50_ms, self.p90_ms, self.p99_ms, self.max_ms)
        _check(sorted(known) == list(known), "0 <= min_ms <= p50_ms <= p90_ms <= p99_ms <= max_ms must hold")

    def seconds(self, random: Random) -> float:
        """Draw a latency in seconds."""
        drawn = random.random()
        points = ((0.0, self.min_ms), (0.5, self.p50_ms), (0.9, self.p90_ms), (0.99, self.p99_ms), (1.0, self.max_ms))
        for (below, low), (above, high) in pairwise(points):
            if drawn <= above:
                return (low + (high - low) * (drawn - below) / (above - below)) / 1000
        return self.max_ms / 1000


Latency = Constant | Uniform | Normal | LogNormal | Pareto | Percentiles


def _check(right: bool, message: str) -> None:
    if not right:
        raise ValueError(message)
