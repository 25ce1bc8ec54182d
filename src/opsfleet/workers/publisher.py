"""Publishes this process's statistics every few seconds, so that any process can answer for all."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.services.workers import WorkerService
from opsfleet.workers.schedule import ticks

PUBLISH_SECONDS = 2.0

logger = structlog.get_logger(__name__)


class StatisticsPublisher:
    """Publishes what `statistics` and `state` return, every few seconds or at the shortest interval of the workers."""

    def __init__(
        self,
        service: WorkerService,
        statistics: Callable[[], Mapping[str, Any]],
        state: Callable[[], str],
        *,
        shortest_interval: float = PUBLISH_SECONDS,
    ) -> None:
        self._service = service
        self._statistics = statistics
        self._state = state
        self._every = min(PUBLISH_SECONDS, shortest_interval)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name="statistics-publisher")

    async def stop(self) -> None:
        """Publish no more, and say so."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            with suppress(DatabaseUnavailableError):  # the silence says it too
                await self._service.withdraw()

    async def _run(self) -> None:
        async for _ in ticks(self._every):
            try:
                await self._service.publish(self._statistics(), self._state())
            except DatabaseUnavailableError as error:
                logger.debug("Statistics not published", reason=error.message)
            except Exception as error:
                logger.exception(f"Statistics not published: {error}")
