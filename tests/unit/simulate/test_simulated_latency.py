from random import Random

import pytest

from opsfleet.simulate.latency import Constant, Latency, LogNormal, Normal, Pareto, Percentiles, Uniform


def drawn(latency: Latency, count: int = 20_000) -> list[float]:
    random = Random(1)
    return sorted(1000 * latency.seconds(random) for _ in range(count))


@pytest.mark.parametrize(
    ("latency", "median", "p99"),
    [
        (Constant(30), 30, 30),
        (Uniform(10, 110), 60, 109),
        (Normal(100, 10), 100, 123.3),
        (LogNormal(20, 200), 20, 200),
        (Pareto(10, 1_000), 20, 1_000),
        (Percentiles(1, 20, 80, 400, 900), 20, 400),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Latency) else str(value),
)
def test_a_distribution_has_the_percentiles_it_was_given(latency: Latency, median: float, p99: float) -> None:
    values = drawn(latency)
    assert values[len(values) // 2] == pytest.approx(median, rel=0.05)
    assert values[len(values) * 99 // 100] == pytest.approx(p99, rel=0.15)


def test_no_latency_is_negative_and_no_tail_passes_its_end() -> None:
    assert drawn(Normal(1, 100))[0] == 0
    assert drawn(Pareto(10, 1_000, 2_000))[-1] == 2_000
    assert drawn(Percentiles(1, 20, 80, 400, 900))[-1] <= 900
