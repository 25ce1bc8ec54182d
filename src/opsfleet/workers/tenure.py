"""Both workers of one term: a tenure begins with nothing remembered."""

import asyncio
from typing import Any

from opsfleet.polling import PollingEngine
from opsfleet.services.leases import Lease
from opsfleet.services.targets import TargetSource
from opsfleet.workers.health import FleetHealthWorker, start_health_worker, stop_health_worker
from opsfleet.workers.metrics import FleetMetricsWorker, start_metrics_worker, stop_metrics_worker


class Tenure:
    """The workers, and what they share, from the moment that this process may poll until another one does."""

    def __init__(
        self,
        lease: Lease,
        source: TargetSource,
        engine: PollingEngine,
        health: FleetHealthWorker,
        metrics: FleetMetricsWorker,
    ) -> None:
        self.lease = lease
        self._source = source
        self._engine = engine
        self._health = health
        self._metrics = metrics
        self.is_polling = False

    def statistics(self) -> dict[str, Any]:
        """Return the statistics of both workers, in the shape of the status endpoint."""
        return {"health_worker": self._health.get_stats(), "metrics_worker": self._metrics.get_stats()}

    async def start(self) -> None:
        """Begin to poll."""
        self.is_polling = True
        self._source.start()
        await start_health_worker(self._health)
        await start_metrics_worker(self._metrics)

    async def suspend(self) -> None:
        """Poll no more, requests under way included; results wait."""
        if self.is_polling:
            self.is_polling = False
            stopping = asyncio.gather(self._health.stop(), self._metrics.stop())
            # Both are told to stop by now; that they have may take seconds when the database does not answer.
            await asyncio.sleep(0)
            self._engine.end_polls()
            await stopping

    async def resume(self) -> None:
        """Poll again."""
        if not self.is_polling:
            self.is_polling = True
            await self._health.start()
            await self._metrics.start()

    async def stop(self) -> None:
        """Stop in good order: what was found is written."""
        await self.suspend()
        await asyncio.gather(stop_health_worker(self._health), stop_metrics_worker(self._metrics))
        await self._source.stop()

    async def abandon(self) -> None:
        """Stop at once: another process polls, and what was found here is not to be written."""
        await self.suspend()
        await asyncio.gather(self._health.abandon(), self._metrics.abandon())
        await self._source.stop()
