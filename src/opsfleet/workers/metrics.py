"""The metrics worker: all servers that answer well enough, every interval, the most recently seen first."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.domain.health import list_names
from opsfleet.domain.metrics import LastCollection, minute_of
from opsfleet.polling import PollingEngine
from opsfleet.services.leases import Lease
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.metrics import MetricsService
from opsfleet.services.metrics_cycle import MetricsCycle, choose
from opsfleet.services.targets import PolledServer, TargetSource
from opsfleet.store.metrics import CollectionToWrite
from opsfleet.workers.polling import Pacing, PollingWorker, start_worker, stop_worker

logger = structlog.get_logger(__name__)


class FleetMetricsWorker(PollingWorker[CollectionToWrite]):
    """Collects the metrics of all servers that are healthy or degraded."""

    subject = "metrics"

    def __init__(
        self,
        source: TargetSource,
        engine: PollingEngine,
        pacing: Pacing,
        *,
        service: MetricsService,
        maintenance: MaintenanceService,
        lease: Lease | None = None,
    ) -> None:
        super().__init__(source, engine, pacing, lease)
        self._service = service
        self._maintenance = maintenance
        self._known: dict[UUID, LastCollection] = {}
        self._cycle: MetricsCycle | None = None
        self._performed = 0
        self._stored = 0
        self._failed = 0
        self._values = 0

    def get_stats(self) -> dict[str, Any]:
        """Return the statistics since the worker's start, in the shape of the status endpoint."""
        cycle = self._cycle
        performed, failed = self._performed, self._failed
        if cycle is not None:
            performed += cycle.collected + len(cycle.failed)
            failed += len(cycle.failed)
        failed += self._buffer.dropped
        ended = self._stored + failed
        return {
            **self._shared_stats(),
            "collections_performed": performed,
            "collections_successful": self._stored,
            "collections_failed": failed,
            "success_rate": round(100 * self._stored / ended, 1) if ended else 0,
            "total_metrics_collected": self._values,
        }

    async def _one_cycle(self, scheduled: datetime) -> None:
        started_at, started = datetime.now(UTC), time.monotonic()
        await self._check_partitions()
        current = list(await self._current())
        servers = choose(current)
        if len(self._known) > len(current):
            active = {server.id for server in current}
            self._known = {server_id: last for server_id, last in self._known.items() if server_id in active}
        if servers:
            logger.info(f"Starting metrics collection for {len(servers)} servers", servers=len(servers))
        cycle = self._cycle = MetricsCycle(servers, minute_of(scheduled), self._known, self._buffer.add)
        self._last_run = started_at
        await self._launch(servers, _path, cycle.take)
        await cycle.done.wait()
        self._last_duration = time.monotonic() - started
        self._cycles += 1
        if servers:
            self._report(cycle, len(servers), self._last_duration)

    async def _check_partitions(self) -> None:
        try:
            await self._maintenance.repair_current_month()
        except DatabaseUnavailableError as error:
            logger.debug("Partitions not checked", reason=error.message)

    def _take_stock(self) -> None:
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.end()
            self._performed += cycle.collected + len(cycle.failed)
            self._failed += len(cycle.failed)

    def _report(self, cycle: MetricsCycle, servers: int, seconds: float) -> None:
        failed = len(cycle.failed)
        logger.info(
            f"Metrics collection complete: {servers} servers in {seconds:.2f}s (✓{cycle.collected} ❌{failed})",
            servers=servers,
            seconds=round(seconds, 3),
            collected=cycle.collected,
            failed=failed,
        )
        if failed:
            names = list_names(cycle.failed)
            logger.warning(f"Failed to collect metrics from: {names}", failed=failed, names=cycle.failed[:5])

    async def _write(self, batch: Sequence[CollectionToWrite], repeated: bool) -> None:
        written = await self._service.record(batch, repeated=repeated, lease=self._lease)
        collected = sum(item.collection.reading is not None for item in batch)
        if written is None:
            # It was stored, but by an attempt whose answer was lost: what is remembered is read anew.
            for item in batch:
                self._known.pop(item.collection.server_id, None)
            self._stored += collected
            self._values += sum(item.collection.reading.value_count for item in batch if item.collection.reading)
            return
        self._known.update(written.last)
        self._stored += written.stored
        self._values += written.values
        self._failed += sum(
            item.collection.reading is not None and item.collection.server_id in written.stale for item in batch
        )
        for server_id in written.stale:
            self._known.pop(server_id, None)


def _path(server: PolledServer) -> str:
    return server.source.metrics_path


async def start_metrics_worker(worker: FleetMetricsWorker) -> bool:
    """Initialize and start the worker; a failure is logged and does not stop the application."""
    return await start_worker(worker)


async def stop_metrics_worker(worker: FleetMetricsWorker) -> None:
    """Stop the worker in good order."""
    await stop_worker(worker)
