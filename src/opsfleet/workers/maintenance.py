"""Daily upkeep of the database, and more often what people wait for."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.retention import RetentionService
from opsfleet.workers.schedule import ticks

DAY_SECONDS = 24 * 3600.0
RETENTION_RETRY_SECONDS = 3600.0
PURGE_SECONDS = 60.0

logger = structlog.get_logger(__name__)


class MaintenanceWorker:
    """Makes partitions daily (and again soon after a failure) and drops the history of removed servers.

    What is past its retention is dropped at the start and then daily, again an hour after something could not be; that
    may take long when it is archived before, so it goes on beside the rest.
    """

    def __init__(self, service: MaintenanceService, retention: RetentionService) -> None:
        self._service = service
        self._retention = retention
        self._partitions_at = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; the partitions were made when the application started."""
        self._partitions_at = time.monotonic()
        self._tasks = [
            asyncio.create_task(self._run(), name="maintenance"),
            asyncio.create_task(self._enforce_retention(), name="retention"),
        ]

    async def stop(self) -> None:
        """Stop at the next step."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        async for tick in ticks(PURGE_SECONDS):
            if tick.number:
                await _guarded(self._look_after)

    async def _look_after(self) -> None:
        if time.monotonic() - self._partitions_at >= DAY_SECONDS:
            await self._service.ensure_partitions()
            self._partitions_at = time.monotonic()
        await self._service.purge_removed()

    async def _enforce_retention(self) -> None:
        while True:
            done = await _guarded(self._enforce_once)
            await asyncio.sleep(DAY_SECONDS if done else RETENTION_RETRY_SECONDS)

    async def _enforce_once(self) -> bool:
        return not (await self._retention.enforce()).put_off


async def _guarded(action: Callable[[], Awaitable[bool | None]]) -> bool:
    """Do one step whose failure must not end the upkeep; say whether there is nothing to do again soon."""
    try:
        return await action() is not False
    except DatabaseUnavailableError as error:
        logger.debug("Maintenance put off", reason=error.message)
    except Exception as error:
        logger.exception(f"Maintenance failed: {error}")
    return False
