"""Jobs on a schedule, each run by one process at a time, whichever is first."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from pgqueuer.core.sm import SchedulerManager
from pgqueuer.models import Schedule

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.services.rollups import RollupService
from opsfleet.store import jobs
from opsfleet.store.database import Database

STOP_SECONDS = 5.0
"""How long a stopping runner waits for the jobs that run."""

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
"""The pauses before the scheduler is started again after a failure, the last of them for good."""

STEADY_SECONDS = 30.0
"""After running this long, the next failure is a first one again."""

ROLL_UP_SCHEDULE = "* * * * * */5"
"""Every five seconds: what is due decides the notes, and a run that was cut off is soon taken up by the next.

The scheduler takes a run for dead whose heartbeat is 30 seconds old, but looks only when it has something to start.
"""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and when: `schedule` is a cron expression, its optional sixth field the second (UTC).

    `run` is given a function that says whether the process is stopping, to be asked between steps.
    """

    name: str
    schedule: str
    run: Callable[[Callable[[], bool]], Awaitable[object]]


def roll_up_job(service: RollupService) -> Job:
    """Return the job that rolls up metrics."""

    async def run(should_stop: Callable[[], bool]) -> None:
        await service.roll_up(should_stop=should_stop)

    return Job("roll up metrics", ROLL_UP_SCHEDULE, run)


class JobRunner:
    """Runs jobs on their schedules, and survives any absence of the database.

    Of all processes that run the same job, one does it at a time.
    """

    def __init__(self, database: Database, all_jobs: Sequence[Job]) -> None:
        self._database = database
        self._jobs = all_jobs
        self._stopping = asyncio.Event()
        self._scheduler: SchedulerManager | None = None
        self._running: set[asyncio.Task[object]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="jobs")

    async def stop(self) -> None:
        """Start no more jobs, and wait a moment for those that run."""
        if self._task is None:
            return
        self._stopping.set()
        if self._scheduler is not None:
            self._scheduler.shutdown.set()
        _, late = await asyncio.wait({self._task}, timeout=STOP_SECONDS)
        if late:
            for task in (*self._running, self._task):
                task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                await self._schedule()
            except DatabaseUnavailableError as error:
                logger.debug("Scheduled jobs put off", reason=error.message)
            except Exception as error:
                logger.exception(f"The scheduler of jobs failed: {error}")
            failures = 0 if time.monotonic() - started > STEADY_SECONDS else failures + 1
            pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            await asyncio.wait({asyncio.ensure_future(self._stopping.wait())}, timeout=pause)

    async def _schedule(self) -> None:
        async with jobs.scheduler(self._database) as scheduler:
            for job in self._jobs:
                scheduler.schedule(job.name, job.schedule, accepts_context=False)(partial(self._once, job))
            self._scheduler = scheduler
            if self._stopping.is_set():
                return
            await scheduler.run()

    async def _once(self, job: Job, _: Schedule) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await job.run(self._stopping.is_set)
        except DatabaseUnavailableError as error:
            logger.debug(f"The job to {job.name} was put off", reason=error.message)
        except Exception as error:
            logger.exception(f"The job to {job.name} failed: {error}")
        finally:
            self._running.discard(task)
