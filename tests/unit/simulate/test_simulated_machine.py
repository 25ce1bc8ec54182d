import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsfleet.simulate.machine import DAY, Machine
from opsfleet.simulate.servers import ROLES, server_of
from opsfleet_agent import wire

NOW = 1_790_000_000.0


def metrics(index: int, now: float) -> wire.Metrics:
    return msgspec.json.decode(Machine(index).metrics(now), type=wire.Metrics)


def health(index: int, now: float) -> wire.Health:
    return wire.health_decoder.decode(Machine(index).health(now))


@given(index=st.integers(0, 200_000), now=st.floats(1.7e9, 2.2e9))
def test_whatever_the_time_the_values_are_plausible(index: int, now: float) -> None:
    said = health(index, now)
    assert said.status == "ok"
    assert said.hostname == server_of(index).hostname
    assert said.uptime_seconds is not None
    assert 0 <= said.uptime_seconds < 81 * DAY
    for component in (said.database, said.redis):
        assert component is None or (component.latency_ms is not None and component.latency_ms > 0)
    measured = metrics(index, now)
    for percent in (measured.cpu_percent, measured.memory_percent, measured.disk_percent):
        assert percent is not None
        assert 0 <= percent <= 100
    assert measured.network_rx_bytes is not None
    assert measured.network_rx_bytes >= 0
    assert measured.active_services == measured.total_services


def test_the_same_server_and_time_give_the_same_values() -> None:
    assert Machine(7).metrics(NOW) == Machine(7).metrics(NOW)
    assert Machine(7).metrics(NOW) != Machine(8).metrics(NOW)
    assert Machine(7).metrics(NOW) != Machine(7, seed=1).metrics(NOW)


@given(index=st.integers(0, 5_000), now=st.floats(1.7e9, 1.8e9), later=st.floats(0, 5 * DAY))
def test_counters_grow_until_the_machine_restarts(index: int, now: float, later: float) -> None:
    machine = Machine(index)
    before, after = metrics(index, now), metrics(index, now + later)
    if machine.uptime(now + later) < machine.uptime(now):
        return
    for name in ("network_rx_bytes", "network_tx_bytes", "llm_requests", "llm_cost_usd"):
        first, second = getattr(before, name), getattr(after, name)
        assert (first is None and second is None) or second >= first


def test_the_afternoon_is_busier_than_the_night() -> None:
    day = NOW - NOW % DAY
    for index in range(20):
        night, afternoon = metrics(index, day + 2 * 3_600), metrics(index, day + 14 * 3_600)
        assert night.cpu_percent is not None
        assert afternoon.cpu_percent is not None
        assert afternoon.cpu_percent > night.cpu_percent


@pytest.mark.parametrize("role", ROLES)
def test_a_role_says_which_components_there_are(role: str) -> None:
    index = next(index for index in range(1_000) if server_of(index).role == role)
    said, measured = health(index, NOW), metrics(index, NOW)
    assert (said.database is not None) == (role in {"web", "api", "worker", "llm", "db"})
    assert (said.redis is not None) == (role in {"web", "api", "worker", "llm", "cache"})
    assert (measured.llm_requests is not None) == (role in {"api", "worker", "llm"})
    assert (measured.total_users is not None) == (role in {"web", "api"})
