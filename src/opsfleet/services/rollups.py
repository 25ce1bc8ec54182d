"""Rolling up metrics: minutes into five minutes, quarters, hours and days, and each into sums of the fleet."""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.domain.partitions import Month, months_to_keep_ready
from opsfleet.domain.rollups import Note
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.store import rollups
from opsfleet.store.database import Database
from opsfleet.store.partitions import MissingPartitionError

logger = structlog.get_logger(__name__)


def _never() -> bool:
    return False


class RollupService:
    """Works off the notes of what is due."""

    def __init__(self, database: Database, maintenance: MaintenanceService) -> None:
        self._database = database
        self._maintenance = maintenance

    async def roll_up(self, now: datetime | None = None, *, should_stop: Callable[[], bool] = _never) -> int:
        """Roll up all that is due at `now` (UTC; the clock's time when not given); return how many buckets it were.

        What ended first is first. Each bucket has a transaction of its own, so that an end at any time loses nothing,
        and several processes may do this at once. `should_stop` is asked between buckets.

        Raises:
            DatabaseUnavailableError: when the database is away; what was rolled up is, the rest stays noted.
        """
        done = 0
        failed: set[Note] = set()
        while True:
            moment = now or datetime.now(UTC)
            async with self._database.connection() as connection:
                noted = await rollups.notes(connection)
            waiting = {note for note in noted if note.due_at <= moment} - failed
            queue = [(note.turn, note) for note in waiting]
            heapq.heapify(queue)
            done_before = done
            while queue:
                if should_stop():
                    return done
                _, note = heapq.heappop(queue)
                waiting.discard(note)
                try:
                    taken, coarser = await self._bucket(note, moment)
                except DatabaseUnavailableError:
                    raise
                except Exception as error:  # one bad bucket must not hold up all the others
                    logger.exception(f"The roll-up of {note.name} failed: {error}")
                    failed.add(note)
                    continue
                done += taken
                if coarser is not None and coarser.due_at <= moment and coarser not in waiting:
                    waiting.add(coarser)
                    heapq.heappush(queue, (coarser.turn, coarser))
            if done == done_before:
                return done

    async def _bucket(self, note: Note, now: datetime) -> tuple[bool, Note | None]:
        """Roll up one bucket; return whether it was ours to do, and the note of the coarser one."""
        try:
            async with self._database.transaction() as connection:
                await rollups.wait_for_turn(connection)
                if not await rollups.take(connection, note):
                    return False, None
                missing = await rollups.missing_part(connection, note)
                if missing is None:
                    await rollups.roll_up(connection, note)
                    return True, await rollups.note_coarser(connection, note, now)
                if Month.of(note.bucket) in months_to_keep_ready(now):
                    raise MissingPartitionError(f"{missing} does not exist")
            logger.warning(
                f"The roll-up of {note.name} was given up: its partition {missing} is gone",
                event_kind="rollup_given_up",
                partition=missing,
            )
        except MissingPartitionError:
            # Dropped by hand, or just now; the note is still there.
            await self._maintenance.ensure_partitions(now)
        return False, None
