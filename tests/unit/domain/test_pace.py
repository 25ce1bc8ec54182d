"""A cycle is spread as gently as it fits into half the interval."""

from hypothesis import given
from hypothesis import strategies as st

from opsfleet.domain.pace import Pace, plan


def test_fifty_servers_go_in_five_batches_over_two_seconds() -> None:
    pace = plan(50, batch_size=10, delay=0.5, interval=30)
    assert pace == Pace(10, 0.5)
    assert pace.span(50) == 2.0


def test_ten_thousand_servers_are_spread_over_half_the_interval() -> None:
    span = plan(10_000, batch_size=10, delay=0.5, interval=30).span(10_000)
    assert 14 < span <= 15


def test_a_hundred_thousand_servers_still_fit() -> None:
    pace = plan(100_000, batch_size=10, delay=0.5, interval=30)
    assert 14 < pace.span(100_000) <= 15
    assert pace.batch_size < 500, "batches and delay share the adjustment"


def test_no_delay_is_full_speed() -> None:
    assert plan(10_000, batch_size=50, delay=0, interval=30) == Pace(50, 0)


@given(
    servers=st.integers(0, 200_000),
    batch_size=st.integers(1, 1_000),
    delay=st.floats(0, 60),
    interval=st.floats(1, 86_400),
)
def test_every_pace_fits_and_is_never_faster_than_it_must_be(
    servers: int, batch_size: int, delay: float, interval: float
) -> None:
    pace = plan(servers, batch_size=batch_size, delay=delay, interval=interval)
    assert pace.span(servers) <= interval / 2 + 1e-9
    assert pace.batch_size >= batch_size
    assert pace.delay <= delay
    if Pace(batch_size, delay).span(servers) <= interval / 2:
        assert pace == Pace(batch_size, delay)
