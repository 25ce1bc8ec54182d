"""Who polls: one process holds the lease, the others stand by."""

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from uuid import UUID

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.store import leases
from opsfleet.store.database import Connection, Database
from opsfleet.store.leases import LeaseLostError, LockSession

LEASE_SECONDS = 3.0
"""So long after the database last confirmed the lock, a holder that knows of others launches nothing more."""

HAND_OVER_SECONDS = 4.0
"""So long a holder waits before it polls, when the one before did not end in good order: that one has stopped then."""


class Standing(Enum):
    """What this process may do."""

    HOLDS = "holds"
    """It polls."""

    WAITS = "waits"
    """It holds the lease, and polls once the one before has certainly stopped."""

    ALONE = "alone"
    """The lock may be lost, but nobody was there to take over: it goes on polling, results wait or are refused."""

    SUSPENDED = "suspended"
    """The lock is lost and others stood by: nothing is polled; what was found waits until it is known who took over."""

    STANDS_BY = "stands_by"
    """Another process polls."""


class Lease:
    """The right to poll and to store for one term, as its holder knows it."""

    def __init__(self, term: int) -> None:
        self.term = term
        self.lost = asyncio.Event()
        self._alone = False
        self._certain_until = float("-inf")
        self._news = asyncio.Event()

    @property
    def alone(self) -> bool:
        """Whether, as far as is known, nobody stands by."""
        return self._alone

    @property
    def is_certain(self) -> bool:
        """Whether requests may be launched now."""
        return not self.lost.is_set() and (self._alone or time.monotonic() <= self._certain_until)

    def renew(self, asked_at: float, *, alone: bool) -> None:
        """Note that the lock was held at `asked_at`, in seconds of the monotonic clock, and who else is there."""
        self._certain_until = asked_at + LEASE_SECONDS
        self.note(alone=alone)

    def note(self, *, alone: bool) -> None:
        """Note who else is there."""
        self._alone = alone
        self._news.set()

    async def certain(self) -> None:
        """Wait until requests may be launched."""
        while not self.is_certain:
            self._news.clear()
            await self._news.wait()

    async def confirm(self, connection: Connection) -> None:
        """Make sure, inside a transaction that stores results, that nobody has taken over.

        Raises:
            LeaseLostError: when somebody has; the transaction is to be rolled back.
        """
        try:
            await leases.confirm(connection, self.term)
        except LeaseLostError:
            self.lost.set()
            raise


class LeaseKeeper:
    """Tries to get the lease, and keeps it. `changed` is called when it is worth looking at once."""

    def __init__(self, database: Database, holder: UUID, changed: Callable[[], None]) -> None:
        self._database = database
        self._holder = holder
        self._changed = changed
        self._session: LockSession | None = None
        self._locked = False
        self._begins_at = 0.0
        self.lease: Lease | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the session that holds, or tries for, the lock lives."""
        return self._session is not None and not self._session.is_closed

    async def look(self) -> Standing:
        """Do what is to be done now, and return what this process may do until the next look."""
        if self.lease is not None and self.lease.lost.is_set():
            self._let_go()
        if self._session is not None and self._session.is_closed:
            self._close()
            # What is lost is acted upon before anything else is tried.
            if self.lease is not None:
                return self._without_lock()
        try:
            return await self._look()
        except DatabaseUnavailableError:
            self._close()
            return self._without_lock()

    async def give_back(self) -> None:
        """End in good order: the next one may begin at once."""
        lease, session = self.lease, self._session
        self.lease = self._session = None
        if session is None:
            return
        if lease is None or not self._locked:
            session.close()
            return
        try:
            await session.give_back(lease.term)
        except DatabaseUnavailableError:
            return  # the next one waits a little longer

    async def _look(self) -> Standing:
        if self._session is None:
            self._session = await LockSession.open(self._database, self._changed)
        session = self._session
        if not self._locked and not await session.try_lock():
            return await self._locked_out(session)
        if not self._locked:
            await self._take(session)
        lease = self.lease
        assert lease is not None
        asked_at = time.monotonic()
        lease.renew(asked_at, alone=not await session.others_stand_by(self._holder))
        return Standing.HOLDS if asked_at >= self._begins_at else Standing.WAITS

    async def _take(self, session: LockSession) -> None:
        lease = self.lease
        taken = await session.take(self._holder, lease.term if lease is not None else None)
        self._locked = True
        if lease is not None and taken.term == lease.term:
            return
        if lease is not None:
            lease.lost.set()
        self.lease = Lease(taken.term)
        self._begins_at = 0.0 if taken.in_order else time.monotonic() + HAND_OVER_SECONDS

    async def _locked_out(self, session: LockSession) -> Standing:
        """Somebody has the lock: another process, or a session of ours whose end the server has not noticed yet."""
        lease = self.lease
        if lease is None:
            return Standing.STANDS_BY
        if await session.current_term() != lease.term:
            lease.lost.set()
            self.lease = None
            return Standing.STANDS_BY
        lease.note(alone=not await session.others_stand_by(self._holder))
        return self._without_lock()

    def _without_lock(self) -> Standing:
        if self.lease is None:
            return Standing.STANDS_BY
        return Standing.ALONE if self.lease.alone else Standing.SUSPENDED

    def _let_go(self) -> None:
        self.lease = None
        self._close()

    def _close(self) -> None:
        session, self._session = self._session, None
        self._locked = False
        if session is not None:
            session.close()
