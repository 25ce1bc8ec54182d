"""What the workers have in common: cycles on a fixed schedule, launched at a pace, results written through a buffer."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import structlog

from opsfleet.domain.pace import plan
from opsfleet.polling import Outcome, PollingEngine
from opsfleet.services.buffer import ResultBuffer
from opsfleet.services.leases import Lease
from opsfleet.services.targets import PolledServer, TargetSource
from opsfleet.store.leases import LeaseLostError
from opsfleet.workers.schedule import ticks

Item = TypeVar("Item")

STOP_SECONDS = 5.0
"""How long a stopping worker waits for results to be written."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pacing:
    """How a worker goes about its cycles; `interval` and `batch_delay` are in seconds."""

    interval: float
    batch_size: int
    batch_delay: float
    buffer_capacity: int


class PollingWorker(ABC, Generic[Item]):
    """Polls servers on a fixed schedule.

    The life of a worker is `initialize`, `start`, `stop`, `cleanup`; `get_stats` may be called at any time. `subject`
    is what its log lines call it: "health" or "metrics". With a `lease`, it launches and stores only while that holds.
    """

    subject: str

    def __init__(self, source: TargetSource, engine: PollingEngine, pacing: Pacing, lease: Lease | None = None) -> None:
        self._source = source
        self._engine = engine
        self._pacing = pacing
        self._lease = lease
        self._buffer: ResultBuffer[Item] = ResultBuffer(
            self._write,
            capacity=pacing.buffer_capacity,
            on_away=self._log_away,
            on_back=self._log_back,
            on_dropped=self._log_dropped,
            on_refused=self._log_refused,
        )
        self._loop_task: asyncio.Task[None] | None = None
        self._cycle_task: asyncio.Task[None] | None = None
        self._cycles = 0
        self._cycles_skipped = 0
        self._cycles_failed = 0
        self._lag = 0.0
        self._last_run: datetime | None = None
        self._last_duration: float | None = None

    async def initialize(self) -> None:
        """Prepare to write results."""
        self._buffer.start()

    async def start(self) -> None:
        """Begin the first cycle now and the others on schedule."""
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self._run(), name=f"{self.subject}-worker")
            interval = self._pacing.interval
            logger.info(f"Fleet {self.subject} worker started ({interval:g}s interval)", interval=interval)

    async def run_cycle(self, scheduled: datetime) -> None:
        """Run one cycle that was to begin at `scheduled` (UTC), and wait until its results are written or given up."""
        await self._guarded_cycle(scheduled)
        await self._buffer.settled()

    async def stop(self) -> None:
        """Launch nothing more and end a cycle under way: what it has found so far is written by `cleanup`.

        Answers that come later are ignored and not counted.
        """
        tasks = [task for task in (self._loop_task, self._cycle_task) if task is not None]
        self._loop_task = self._cycle_task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def cleanup(self) -> None:
        """Write what is left and let go of everything."""
        left = await self._buffer.stop(STOP_SECONDS)
        if left:
            logger.error(f"Fleet {self.subject} worker stopped with {left} results not written", results=left)

    async def abandon(self) -> None:
        """Stop for good, and give up what is not written."""
        await self.stop()
        left = await self._buffer.stop(0)
        if left:
            logger.error(f"Fleet {self.subject} worker gave up {left} results not written", results=left)

    @abstractmethod
    def get_stats(self) -> dict[str, Any]:
        """Return the statistics since the worker's start, in the shape of the status endpoint."""

    @abstractmethod
    async def _one_cycle(self, scheduled: datetime) -> None:
        """Poll the servers once; `scheduled` is when the cycle was to begin."""

    @abstractmethod
    async def _write(self, batch: Sequence[Item], repeated: bool) -> None:
        """Store a batch of results."""

    @abstractmethod
    def _take_stock(self) -> None:
        """Add the cycle that ended, however it did, to the totals."""

    # for the workers

    def _shared_stats(self) -> dict[str, Any]:
        """Return the statistics that every worker has."""
        return {
            "running": self._loop_task is not None and not self._loop_task.done(),
            "interval_seconds": self._pacing.interval,
            "last_run": self._last_run.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if self._last_run is not None else None,
            "last_duration_seconds": round(self._last_duration, 3) if self._last_duration is not None else None,
            "cycles": self._cycles,
            "cycles_skipped": self._cycles_skipped,
            "cycles_failed": self._cycles_failed,
            "lag_seconds": round(self._lag, 3),
            "results_buffered": len(self._buffer),
            "results_dropped": self._buffer.dropped,
            "in_flight": self._engine.in_flight,
        }

    async def _current(self) -> Iterable[PolledServer]:
        """Return the servers that are active now."""
        current, gone = await self._source.current()
        for server_id in gone:
            self._engine.forget(server_id)
        return current

    async def _launch(
        self, servers: Sequence[PolledServer], path_of: Callable[[PolledServer], str], take: Callable[[Outcome], None]
    ) -> None:
        """Send a cycle's requests at its pace, never waiting for answers."""
        pacing = self._pacing
        pace = plan(len(servers), batch_size=pacing.batch_size, delay=pacing.batch_delay, interval=pacing.interval)
        submit = self._engine.submit
        start = time.monotonic()
        for number, position in enumerate(range(0, len(servers), pace.batch_size)):
            if number:
                await asyncio.sleep(start + number * pace.delay - time.monotonic())
            if self._lease is not None:
                await self._lease.certain()
            for server in servers[position : position + pace.batch_size]:
                submit(server.target, path_of(server), take)
            self._lag = max(0.0, time.monotonic() - start - number * pace.delay)

    # the loop

    async def _run(self) -> None:
        async for tick in ticks(self._pacing.interval):
            if self._cycle_task is not None and not self._cycle_task.done():
                self._cycles_skipped += 1
                logger.warning(
                    f"{self.subject.capitalize()} cycle skipped: the one before still runs",
                    cycles_skipped=self._cycles_skipped,
                )
                continue
            scheduled = datetime.now(UTC) - timedelta(seconds=tick.lateness)
            self._cycle_task = asyncio.create_task(self._guarded_cycle(scheduled), name=f"{self.subject}-cycle")

    async def _guarded_cycle(self, scheduled: datetime) -> None:
        try:
            await self._one_cycle(scheduled)
        except Exception as error:  # whatever went wrong, the next interval tries again
            self._cycles_failed += 1
            logger.exception(f"{self.subject.capitalize()} cycle failed: {error}", cycles_failed=self._cycles_failed)
        finally:
            self._take_stock()

    # the buffer

    def _log_away(self, reason: str, waiting: int) -> None:
        logger.error(f"{self.subject.capitalize()} results wait for the database: {reason}", results=waiting)

    def _log_back(self, waiting: int) -> None:
        logger.info(f"Database is back: waiting {self.subject} results are being written", results=waiting)

    def _log_dropped(self, dropped: int) -> None:
        logger.error(
            f"{self.subject.capitalize()} results dropped: {dropped} so far, the oldest first", results_dropped=dropped
        )

    def _log_refused(self, error: Exception, count: int) -> None:
        trace = None if isinstance(error, LeaseLostError) else error
        logger.error(f"{count} {self.subject} results could not be stored: {error}", results=count, exc_info=trace)


async def start_worker(worker: PollingWorker[Any]) -> bool:
    """Initialize and start a worker; a failure is logged and does not stop the application."""
    try:
        await worker.initialize()
        await worker.start()
    except Exception as error:  # the API must serve even when a worker cannot
        logger.exception(f"Fleet {worker.subject} worker cannot start: {error}")
        return False
    return True


async def stop_worker(worker: PollingWorker[Any]) -> None:
    """Stop a worker in good order."""
    await worker.stop()
    await worker.cleanup()
    logger.info(f"Fleet {worker.subject} worker stopped")
