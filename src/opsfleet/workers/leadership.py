"""Runs the workers in one process at a time: in the one that holds the lease."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog

from opsfleet.services.leases import Lease, LeaseKeeper, Standing
from opsfleet.store.database import Database
from opsfleet.workers.tenure import Tenure

LOOK_SECONDS = 1.0
"""Between two looks at the lease, unless there is news."""

_PAUSE_SECONDS = 0.1
"""Between two looks at least, whatever the news."""

logger = structlog.get_logger(__name__)


class Leadership:
    """Stands by until this process holds the lease, then runs the workers that `begin` makes until it is lost."""

    def __init__(self, database: Database, instance_id: UUID, begin: Callable[[Lease], Tenure]) -> None:
        self._news = asyncio.Event()
        self._keeper = LeaseKeeper(database, instance_id, self._news.set)
        self._begin = begin
        self._tenure: Tenure | None = None
        self._standing: Standing | None = None
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[bool] | None = None

    @property
    def state(self) -> str:
        """`active` while the workers poll here, else `standby`."""
        return "active" if self._tenure is not None and self._tenure.is_polling else "standby"

    @property
    def stands_by_well(self) -> bool:
        """Whether another process polls, or is about to be followed, and this one could take over."""
        return self._standing in {Standing.STANDS_BY, Standing.WAITS} and self._keeper.is_connected

    def statistics(self) -> dict[str, Any]:
        """Return the statistics of the workers, nothing while they do not poll here."""
        return self._tenure.statistics() if self._tenure is not None and self._tenure.is_polling else {}

    async def start(self) -> None:
        """Try once, so that a process alone works before this returns, and go on trying."""
        await self._guarded_look()
        self._task = asyncio.create_task(self._run(), name="leadership")

    async def stop(self) -> None:
        """Stop in good order: what was found is written, then another process may begin at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._forget_watch()
        tenure, self._tenure = self._tenure, None
        if tenure is not None:
            await tenure.stop()
        await self._keeper.give_back()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                async with asyncio.timeout(LOOK_SECONDS - _PAUSE_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            await self._guarded_look()

    async def _guarded_look(self) -> None:
        try:
            await self._look()
        except Exception as error:  # whatever went wrong, the next look tries again
            logger.exception(f"The lease of polling could not be looked at: {error}")

    async def _look(self) -> None:
        standing = await self._keeper.look()
        before, self._standing = self._standing, standing
        lease, tenure = self._keeper.lease, self._tenure
        if tenure is not None and tenure.lease is not lease:
            logger.warning("Another worker has taken over: this one stops and stands by", term=tenure.lease.term)
            self._tenure = None
            self._forget_watch()
            await tenure.abandon()
            tenure = None
        if standing is not before:
            self._tell(standing)
        if standing is Standing.HOLDS and tenure is None and lease is not None:
            self._tenure = tenure = self._begin(lease)
            self._watch = asyncio.create_task(lease.lost.wait(), name="lease-lost")
            self._watch.add_done_callback(lambda _: self._news.set())
            await tenure.start()
        elif standing in {Standing.HOLDS, Standing.ALONE} and tenure is not None:
            await tenure.resume()
        elif standing is Standing.SUSPENDED and tenure is not None:
            await tenure.suspend()

    def _tell(self, standing: Standing) -> None:
        term = self._keeper.lease.term if self._keeper.lease is not None else None
        if standing is Standing.HOLDS:
            logger.info("This worker polls", term=term)
        elif standing is Standing.WAITS:
            logger.info("This worker takes over as soon as the one before has certainly stopped", term=term)
        elif standing is Standing.STANDS_BY:
            logger.info("This worker stands by")
        elif standing is Standing.SUSPENDED:
            logger.error("The lock is lost and others stand by: this worker stops polling", term=term)
        else:
            logger.error("The lock is lost and nobody else is there: this worker goes on polling", term=term)

    def _forget_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
