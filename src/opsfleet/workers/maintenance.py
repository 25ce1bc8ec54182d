"""Daily upkeep of the database, and more often what people wait for."""

import asyncio
import time

import structlog

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.workers.schedule import ticks

PARTITIONS_SECONDS = 24 * 3600.0
PURGE_SECONDS = 60.0

logger = structlog.get_logger(__name__)


class MaintenanceWorker:
    """Makes partitions daily (and again soon after a failure) and drops the history of removed servers."""

    def __init__(self, service: MaintenanceService) -> None:
        self._service = service
        self._partitions_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the partitions were made when the application started."""
        self._partitions_at = time.monotonic()
        self._task = asyncio.create_task(self._run(), name="maintenance")

    async def stop(self) -> None:
        """Stop at the next step."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        async for tick in ticks(PURGE_SECONDS):
            if tick.number == 0:
                continue
            try:
                if time.monotonic() - self._partitions_at >= PARTITIONS_SECONDS:
                    await self._service.ensure_partitions()
                    self._partitions_at = time.monotonic()
                await self._service.purge_removed()
            except DatabaseUnavailableError as error:
                logger.debug("Maintenance put off", reason=error.message)
            except Exception as error:
                logger.exception(f"Maintenance failed: {error}")
