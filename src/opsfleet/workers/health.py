"""The health worker: all active servers, every interval, the longest unchecked first."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import structlog

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.uptime import gap_after
from opsfleet.polling import PollingEngine
from opsfleet.services.health import HealthService
from opsfleet.services.health_cycle import HealthCycle
from opsfleet.services.leases import Lease
from opsfleet.services.targets import PolledServer, TargetSource
from opsfleet.store.health_checks import CheckToWrite
from opsfleet.workers.polling import Pacing, PollingWorker, start_worker, stop_worker

_SIGNS = {
    HealthStatus.HEALTHY: "✓",
    HealthStatus.DEGRADED: "🔶",
    HealthStatus.CRITICAL: "⚠️",
    HealthStatus.UNREACHABLE: "❌",
}

logger = structlog.get_logger(__name__)


class FleetHealthWorker(PollingWorker[CheckToWrite]):
    """Checks the health of all active servers."""

    subject = "health"

    def __init__(
        self,
        source: TargetSource,
        engine: PollingEngine,
        pacing: Pacing,
        *,
        service: HealthService,
        lease: Lease | None = None,
    ) -> None:
        super().__init__(source, engine, pacing, lease)
        self._service = service
        self._gap_after = gap_after(pacing.interval)
        self._servers: dict[Any, PolledServer] = {}
        self._cycle: HealthCycle | None = None
        self._performed = 0
        self._successful = 0
        self._failed = 0
        self._cycles_suspect = 0

    def get_stats(self) -> dict[str, Any]:
        """Return the statistics since the worker's start, in the shape of the status endpoint."""
        cycle = self._cycle
        performed, successful, failed = self._performed, self._successful, self._failed
        if cycle is not None:
            performed += cycle.answered + cycle.counts[HealthStatus.UNREACHABLE] + cycle.broken
            successful += cycle.answered
            failed += cycle.counts[HealthStatus.UNREACHABLE] + cycle.broken
        return {
            **self._shared_stats(),
            "checks_performed": performed,
            "checks_successful": successful,
            "checks_failed": failed,
            "success_rate": round(100 * successful / performed, 1) if performed else 0,
            "cycles_suspect": self._cycles_suspect,
        }

    async def _one_cycle(self, scheduled: datetime) -> None:
        started_at, started = datetime.now(UTC), time.monotonic()
        servers = sorted(await self._current(), key=attrgetter("checked_at"))
        self._servers = {server.id: server for server in servers}
        if servers:
            logger.info(f"Starting health checks for {len(servers)} servers", servers=len(servers))
        cycle = self._cycle = HealthCycle(servers, self._buffer.add, self._gap_after, unusable=self._source.unusable)
        self._last_run = started_at
        await self._launch(servers, _path, cycle.take)
        await cycle.done.wait()
        self._last_duration = time.monotonic() - started
        self._cycles += 1
        if servers:
            self._report(cycle, len(servers), self._last_duration)

    def _take_stock(self) -> None:
        cycle, self._cycle = self._cycle, None
        if cycle is None:
            return
        cycle.end()
        failed = cycle.counts[HealthStatus.UNREACHABLE] + cycle.broken
        self._successful += cycle.answered
        self._failed += failed
        self._performed += cycle.answered + failed
        if cycle.suspect:
            self._cycles_suspect += 1

    def _report(self, cycle: HealthCycle, servers: int, seconds: float) -> None:
        counts = " ".join(f"{_SIGNS[status]}{cycle.counts[status]}" for status in HealthStatus)
        fields = {status.value: cycle.counts[status] for status in HealthStatus}
        logger.info(
            f"Health checks complete: {servers} servers checked in {seconds:.2f}s ({counts})",
            servers=servers,
            seconds=round(seconds, 3),
            broken=cycle.broken,
            **fields,
        )
        if cycle.suspect:
            logger.warning(
                f"Health cycle suspect: none of {servers} servers could be reached, our own network may be down; "
                "no health was changed",
                servers=servers,
            )
            return
        critical, unreachable = cycle.counts[HealthStatus.CRITICAL], cycle.counts[HealthStatus.UNREACHABLE]
        if critical or unreachable:
            logger.warning(
                f"Fleet health alert: {critical} critical, {unreachable} unreachable servers",
                critical=critical,
                unreachable=unreachable,
            )

    async def _write(self, batch: Sequence[CheckToWrite], repeated: bool) -> None:
        written = await self._service.record(batch, repeated=repeated, lease=self._lease)
        for item in written.changed:
            server = self._servers.get(item.check.server_id)
            if server is not None:
                server.version = item.check.version or server.version
                if item.judged:
                    server.health = item.check.status


def _path(server: PolledServer) -> str:
    return server.source.health_path


async def start_health_worker(worker: FleetHealthWorker) -> bool:
    """Initialize and start the worker; a failure is logged and does not stop the application."""
    return await start_worker(worker)


async def stop_health_worker(worker: FleetHealthWorker) -> None:
    """Stop the worker in good order."""
    await stop_worker(worker)
