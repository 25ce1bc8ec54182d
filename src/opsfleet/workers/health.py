"""The health worker: all active servers, every interval, the longest unchecked first."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import structlog

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.pace import plan
from opsfleet.polling import PollingEngine
from opsfleet.services.buffer import ResultBuffer
from opsfleet.services.health import HealthService
from opsfleet.services.health_cycle import HealthCycle
from opsfleet.services.targets import PolledServer, TargetSource
from opsfleet.store.health_checks import CheckToWrite
from opsfleet.workers.schedule import ticks
from opsfleet_agent import wire

_SIGNS = {
    HealthStatus.HEALTHY: "✓",
    HealthStatus.DEGRADED: "🔶",
    HealthStatus.CRITICAL: "⚠️",
    HealthStatus.UNREACHABLE: "❌",
}

STOP_SECONDS = 5.0
"""How long a stopping worker waits for results to be written."""

logger = structlog.get_logger(__name__)


class FleetHealthWorker:
    """Checks the health of all active servers on a fixed schedule.

    `interval` and `batch_delay` are in seconds. The life of a worker is `initialize`, `start`, `stop`, `cleanup`;
    `get_stats` may be called at any time.
    """

    def __init__(
        self,
        *,
        source: TargetSource,
        engine: PollingEngine,
        service: HealthService,
        interval: float,
        batch_size: int,
        batch_delay: float,
        buffer_capacity: int,
    ) -> None:
        self._source = source
        self._engine = engine
        self._service = service
        self._interval = interval
        self._batch_size = batch_size
        self._batch_delay = batch_delay
        self._buffer: ResultBuffer[CheckToWrite] = ResultBuffer(
            self._write,
            capacity=buffer_capacity,
            on_away=self._log_away,
            on_back=self._log_back,
            on_dropped=self._log_dropped,
            on_refused=self._log_refused,
        )
        self._servers: dict[Any, PolledServer] = {}
        self._loop_task: asyncio.Task[None] | None = None
        self._cycle_task: asyncio.Task[None] | None = None
        self._cycle: HealthCycle | None = None
        self._performed = 0
        self._successful = 0
        self._failed = 0
        self._cycles = 0
        self._cycles_skipped = 0
        self._cycles_failed = 0
        self._cycles_suspect = 0
        self._lag = 0.0
        self._last_run: datetime | None = None
        self._last_duration: float | None = None

    async def initialize(self) -> None:
        """Prepare to write results and follow the registry."""
        self._buffer.start()
        self._source.start()

    async def start(self) -> None:
        """Begin the first cycle now and the others on schedule."""
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self._run(), name="health-worker")
            logger.info(f"Fleet health worker started ({self._interval:g}s interval)", interval=self._interval)

    async def stop(self) -> None:
        """Launch nothing more and end a cycle under way: what it has found so far is written by `cleanup`.

        Servers that looked unreachable, while none had answered yet, are recorded without being judged. Answers that
        come later are ignored and not counted.
        """
        tasks = [task for task in (self._loop_task, self._cycle_task) if task is not None]
        self._loop_task = self._cycle_task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def cleanup(self) -> None:
        """Write what is left and let go of everything."""
        await self._source.stop()
        left = await self._buffer.stop(STOP_SECONDS)
        if left:
            logger.error(f"Fleet health worker stopped with {left} results not written", results=left)

    def get_stats(self) -> dict[str, Any]:
        """Return the statistics since the worker's start, in the shape of the status endpoint."""
        cycle = self._cycle
        performed, successful, failed = self._performed, self._successful, self._failed
        if cycle is not None:
            performed += cycle.answered + cycle.counts[HealthStatus.UNREACHABLE] + cycle.broken
            successful += cycle.answered
            failed += cycle.counts[HealthStatus.UNREACHABLE] + cycle.broken
        return {
            "running": self._loop_task is not None and not self._loop_task.done(),
            "interval_seconds": self._interval,
            "checks_performed": performed,
            "checks_successful": successful,
            "checks_failed": failed,
            "success_rate": round(100 * successful / performed, 1) if performed else 0,
            "last_run": _timestamp(self._last_run),
            "last_duration_seconds": round(self._last_duration, 3) if self._last_duration is not None else None,
            "cycles": self._cycles,
            "cycles_skipped": self._cycles_skipped,
            "cycles_failed": self._cycles_failed,
            "cycles_suspect": self._cycles_suspect,
            "lag_seconds": round(self._lag, 3),
            "results_buffered": len(self._buffer),
            "results_dropped": self._buffer.dropped,
            "in_flight": self._engine.in_flight,
        }

    # the loop

    async def _run(self) -> None:
        async for _ in ticks(self._interval):
            if self._cycle_task is not None and not self._cycle_task.done():
                self._cycles_skipped += 1
                logger.warning("Health cycle skipped: the one before still runs", cycles_skipped=self._cycles_skipped)
                continue
            self._cycle_task = asyncio.create_task(self._guarded_cycle(), name="health-cycle")

    async def _guarded_cycle(self) -> None:
        try:
            await self._one_cycle()
        except Exception as error:  # whatever went wrong, the next interval tries again
            self._cycles_failed += 1
            logger.exception(f"Health cycle failed: {error}", cycles_failed=self._cycles_failed)
        finally:
            self._take_stock()

    async def _one_cycle(self) -> None:
        started_at, started = datetime.now(UTC), time.monotonic()
        current, gone = await self._source.current()
        for server_id in gone:
            self._engine.forget(server_id)
        servers = sorted(current, key=attrgetter("checked_at"))
        self._servers = {server.id: server for server in servers}
        if servers:
            logger.info(f"Starting health checks for {len(servers)} servers", servers=len(servers))
        cycle = self._cycle = HealthCycle(servers, self._buffer.add, unusable=self._source.unusable)
        self._last_run = started_at
        await self._launch(servers, cycle)
        await cycle.done.wait()
        self._last_duration = time.monotonic() - started
        self._cycles += 1
        if servers:
            self._report(cycle, len(servers), self._last_duration)

    async def _launch(self, servers: Sequence[PolledServer], cycle: HealthCycle) -> None:
        """Send the cycle's requests at its pace, never waiting for answers."""
        pace = plan(len(servers), batch_size=self._batch_size, delay=self._batch_delay, interval=self._interval)
        submit, take, path = self._engine.submit, cycle.take, wire.HEALTH_PATH
        start = time.monotonic()
        for number, position in enumerate(range(0, len(servers), pace.batch_size)):
            if number:
                await asyncio.sleep(start + number * pace.delay - time.monotonic())
            for server in servers[position : position + pace.batch_size]:
                submit(server.target, path, take)
            self._lag = max(0.0, time.monotonic() - start - number * pace.delay)

    def _take_stock(self) -> None:
        """End the cycle and add it to the totals."""
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

    # writing

    async def _write(self, batch: Sequence[CheckToWrite], repeated: bool) -> None:
        written = await self._service.record(batch, repeated=repeated)
        servers = self._servers
        for item in batch:
            check = item.check
            if item.is_steady or check.server_id in written.stale or check.server_id in written.late:
                continue
            server = servers.get(check.server_id)
            if server is not None:
                server.version = check.version or server.version
                if item.judged:
                    server.health = check.status

    def _log_away(self, reason: str, waiting: int) -> None:
        logger.error(f"Health results wait for the database: {reason}", results=waiting)

    def _log_back(self, waiting: int) -> None:
        logger.info("Database is back: waiting health results are being written", results=waiting)

    def _log_dropped(self, dropped: int) -> None:
        logger.error(f"Health results dropped: {dropped} so far, the oldest first", results_dropped=dropped)

    def _log_refused(self, error: Exception, count: int) -> None:
        logger.error(f"{count} health results could not be stored: {error}", results=count, exc_info=error)


async def start_health_worker(worker: FleetHealthWorker) -> bool:
    """Initialize and start the worker; a failure is logged and does not stop the application."""
    try:
        await worker.initialize()
        await worker.start()
    except Exception as error:  # the API must serve even when this worker cannot
        logger.exception(f"Fleet health worker cannot start: {error}")
        return False
    return True


async def stop_health_worker(worker: FleetHealthWorker) -> None:
    """Stop the worker in good order."""
    await worker.stop()
    await worker.cleanup()
    logger.info("Fleet health worker stopped")


def _timestamp(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment is not None else None
