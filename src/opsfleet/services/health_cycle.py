"""One pass over all servers: what each outcome counts for, and whether the pass may be believed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from opsfleet.domain.cycles import can_be_suspect
from opsfleet.domain.health import HealthCheck, HealthStatus
from opsfleet.polling import FaultKind, Outcome
from opsfleet.services.reports import check_of
from opsfleet.services.targets import PolledServer
from opsfleet.store.health_checks import CheckToWrite

_UNREACHABLE = HealthStatus.UNREACHABLE

_SILENCE = frozenset({FaultKind.DNS, FaultKind.NO_ROUTE, FaultKind.REFUSED, FaultKind.RESET, FaultKind.TIMEOUT})
"""What a dead network of our own looks like. The other faults need an answer of some kind, which proves it alive."""


class HealthCycle:
    """Takes the outcomes of one cycle and passes checks on to be recorded.

    While nothing of the cycle has proved that the network works, failures to connect wait, because the silence may be
    our own network's. When the cycle ends like that and is large enough to tell, it is `suspect`: these checks are
    recorded, but none changes a server's health. A server that our own rules forbid to call counts neither way. Between
    two checks of a server that are further apart than `gap_after`, nobody looked.

    The checks of `unusable` more servers, which cannot even be called, count as broken.
    """

    def __init__(
        self,
        servers: Sequence[PolledServer],
        record: Callable[[CheckToWrite], None],
        gap_after: timedelta,
        *,
        unusable: int = 0,
    ) -> None:
        self._servers: Mapping[UUID, PolledServer] = {server.id: server for server in servers}
        self._record = record
        self._gap_after = gap_after
        self._gap_seconds = gap_after.total_seconds()
        self._remaining = len(servers)
        self._held: list[CheckToWrite] = []
        self._denied: set[UUID] = set()
        self._network_works = False
        self._may_be_suspect = self._large_enough()
        self.counts: dict[HealthStatus, int] = dict.fromkeys(HealthStatus, 0)
        self.broken = unusable
        self.answered = 0
        self.suspect = False
        self.done = asyncio.Event()
        self._ended = False
        if not servers:
            self.done.set()

    @property
    def remaining(self) -> int:
        """How many servers have no outcome yet."""
        return self._remaining

    def take(self, outcome: Outcome) -> None:
        """Take the outcome of one server of the cycle (the sink of its polls); after `end` it counts for nothing."""
        if self._ended:
            return
        server = self._servers[outcome.target.key]  # type: ignore[index]  # our keys are the servers' ids
        check = check_of(outcome, server.id, server.source.judge)
        if check is None:
            self.broken += 1
        else:
            self.counts[check.status] += 1
            item = CheckToWrite(check, server.revision, server.health, server.version)
            if outcome.at - server.checked_at > self._gap_seconds:
                item.gap_after = self._gap_after
            server.checked_at = outcome.at
            if check.answered:
                server.seen_at = outcome.at
            self._pass_on(item, check)
        self._remaining -= 1
        if not self._remaining:
            self._conclude()

    def end(self) -> None:
        """End the cycle, whether or not it is complete.

        Checks that still wait for a proof that the network works are recorded, marked `interrupted`, and not judged: an
        interrupted cycle cannot tell whose silence it was. What comes later is neither recorded nor counted, so that
        the counts are those of the checks recorded.
        """
        self._ended = True
        self._record_unjudged("interrupted")

    def _pass_on(self, item: CheckToWrite, check: HealthCheck) -> None:
        if check.status is not _UNREACHABLE:
            self.answered += 1
            self._believe()
        else:
            kind = (check.error_details or {}).get("kind")
            if kind == FaultKind.DENIED:
                self._denied.add(check.server_id)
            elif kind not in _SILENCE:
                self._believe()
            elif self._may_be_suspect and not self._network_works:
                self._held.append(item)
                return
        self._record(item)

    def _believe(self) -> None:
        self._network_works = True
        if self._held:
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for item in held:
            self._record(item)

    def _conclude(self) -> None:
        if self._held and self._large_enough():
            # A check that broke on our side says nothing about the network, so it does not excuse the silence.
            self.suspect = True
            self._record_unjudged("suspect")
        self._release()
        self.done.set()

    def _record_unjudged(self, why: str) -> None:
        for item in self._held:
            item.judged = False
            item.check.error_details = {**(item.check.error_details or {}), why: True}
        self._release()

    def _large_enough(self) -> bool:
        called = [server for server_id, server in self._servers.items() if server_id not in self._denied]
        return can_be_suspect(len(called), len({server.network for server in called}))
