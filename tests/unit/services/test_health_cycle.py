"""Silence of a whole fleet is not believed, unless something proves that our own network works."""

from datetime import UTC, datetime, timedelta

import pytest

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.domain.servers import ServerKind
from opsfleet.polling import Fault, FaultKind, Outcome, Target
from opsfleet.services.health_cycle import HealthCycle
from opsfleet.services.targets import PolledServer
from opsfleet.store.health_checks import CheckToWrite
from opsfleet.store.targets import TargetRow

NOW = datetime(2026, 1, 26, tzinfo=UTC)


def server(number: int) -> PolledServer:
    """Return a healthy server; neighbouring numbers are in different networks."""
    server_id, host = new_id(), f"10.0.{number % 2}.{number + 1}"
    row = TargetRow(
        id=server_id,
        revision=1,
        organization_id=DEFAULT_ORGANIZATION,
        name=f"s-{number}",
        kind=ServerKind.AGENT,
        api_url=f"http://{host}",
        api_token_ciphertext=b"",
        ca_certificate=None,
        health_status=HealthStatus.HEALTHY,
        last_health_check_at=None,
        last_seen_at=None,
        version=None,
    )
    return PolledServer(row, Target(server_id, host, 80, tls=False))


class Story:
    """A cycle, what it was told, and what it has recorded."""

    def __init__(self, servers: int) -> None:
        self.servers = [server(number) for number in range(servers)]
        self.recorded: list[CheckToWrite] = []
        self.cycle = HealthCycle(self.servers, self.recorded.append, timedelta(seconds=90))
        self._next = iter(self.servers)

    def fault(self, kind: FaultKind, count: int = 1) -> None:
        """Let the next servers fail."""
        for _ in range(count):
            target = next(self._next).target
            self.cycle.take(Outcome(target, "/health", NOW.timestamp(), None, 0, b"", Fault(kind, kind.value)))

    def answer(self) -> None:
        """Let the next server answer well."""
        target = next(self._next).target
        self.cycle.take(Outcome(target, "/health", NOW.timestamp(), 0.01, 200, b"{}", None))

    @property
    def judged(self) -> int:
        return sum(item.judged for item in self.recorded)


@pytest.mark.parametrize("kind", ["dns", "no_route", "refused", "reset", "timeout"])
def test_a_fleet_that_fails_to_connect_is_recorded_but_not_believed(kind: str) -> None:
    story = Story(12)
    story.fault(FaultKind(kind), 11)
    assert story.recorded == [], "they wait for a proof that the network works"
    story.fault(FaultKind(kind))
    assert (len(story.recorded), story.judged) == (12, 0)
    assert story.cycle.suspect
    assert story.cycle.done.is_set()
    assert all((item.check.error_details or {})["suspect"] is True for item in story.recorded)
    assert all((item.check.error_details or {})["kind"] == kind for item in story.recorded)


@pytest.mark.parametrize("kind", ["tls", "truncated"])
def test_bytes_from_a_peer_prove_the_network_and_release_what_waits(kind: str) -> None:
    story = Story(12)
    story.fault(FaultKind.TIMEOUT, 10)
    assert story.recorded == []
    story.fault(FaultKind(kind))
    assert (len(story.recorded), story.judged) == (11, 11)
    story.fault(FaultKind.TIMEOUT)
    assert (len(story.recorded), story.judged) == (12, 12), "from then on nobody waits"
    assert not story.cycle.suspect
    assert story.cycle.answered == 0, "a proof is no successful check"


@pytest.mark.parametrize("kind", ["tls", "truncated", "denied"])
def test_a_whole_fleet_with_another_fault_is_unreachable_at_once(kind: str) -> None:
    story = Story(12)
    story.fault(FaultKind(kind), 12)
    assert story.judged == 12
    assert not story.cycle.suspect
    assert story.cycle.counts[HealthStatus.UNREACHABLE] == 12


@pytest.mark.parametrize("kind", ["too_large", "protocol"])
def test_an_answer_that_is_none_of_ours_releases_what_waits(kind: str) -> None:
    story = Story(12)
    story.fault(FaultKind.REFUSED, 11)
    story.fault(FaultKind(kind))
    assert story.judged == 12
    assert not story.cycle.suspect


def test_a_server_that_our_rules_forbid_is_judged_and_proves_nothing() -> None:
    story = Story(12)
    story.fault(FaultKind.TIMEOUT, 5)
    story.fault(FaultKind.DENIED, 2)
    assert (len(story.recorded), story.judged) == (2, 2), "those that wait go on waiting"
    story.fault(FaultKind.TIMEOUT, 5)
    assert story.cycle.suspect, "ten servers were called, and all were silent"
    assert (len(story.recorded), story.judged) == (12, 2)


def test_forbidden_servers_do_not_make_a_small_fleet_large() -> None:
    story = Story(12)
    story.fault(FaultKind.DENIED, 3)
    story.fault(FaultKind.TIMEOUT, 9)
    assert story.judged == 12
    assert not story.cycle.suspect


def test_a_check_that_broke_on_our_side_does_not_excuse_the_silence() -> None:
    story = Story(12)
    story.fault(FaultKind.LOCAL, 2)
    story.fault(FaultKind.TIMEOUT, 10)
    assert story.cycle.suspect
    assert (len(story.recorded), story.judged, story.cycle.broken) == (10, 0, 2)


def test_an_answer_releases_what_waits() -> None:
    story = Story(12)
    story.fault(FaultKind.TIMEOUT, 11)
    story.answer()
    assert (len(story.recorded), story.judged) == (12, 12)
    assert not story.cycle.suspect


def test_a_cycle_that_is_interrupted_records_what_waits_and_judges_nobody() -> None:
    story = Story(12)
    story.fault(FaultKind.TIMEOUT, 5)
    story.cycle.end()
    assert (len(story.recorded), story.judged) == (5, 0)
    assert all((item.check.error_details or {})["interrupted"] is True for item in story.recorded)
    assert not story.cycle.suspect, "it cannot tell"


def test_what_comes_after_the_end_is_neither_recorded_nor_counted() -> None:
    story = Story(12)
    story.answer()
    story.cycle.end()
    story.answer()
    story.fault(FaultKind.TIMEOUT)
    story.fault(FaultKind.LOCAL)
    assert len(story.recorded) == 1
    assert (story.cycle.answered, story.cycle.broken, sum(story.cycle.counts.values())) == (1, 0, 1)


def test_ending_a_complete_cycle_changes_nothing() -> None:
    story = Story(12)
    story.fault(FaultKind.TIMEOUT, 12)
    story.cycle.end()
    assert len(story.recorded) == 12
    assert all("interrupted" not in (item.check.error_details or {}) for item in story.recorded)
