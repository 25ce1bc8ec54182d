"""Whether this process can do its work."""

from collections.abc import Callable

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.services.workers import KINDS, WorkerService
from opsfleet.store import migrate
from opsfleet.store.database import Database

POLLING = KINDS[0]


class ReadinessService:
    """Answers readiness probes; `stands_by_well` says whether this process is ready to take over the polling."""

    def __init__(
        self, database: Database, workers: WorkerService, stands_by_well: Callable[[], bool] = lambda: False
    ) -> None:
        self._database = database
        self._workers = workers
        self._stands_by_well = stands_by_well

    async def checks(self) -> dict[str, str]:
        """Return what was looked at; each value is `ok` or one sentence that says what is wrong."""
        try:
            async with self._database.connection() as connection:
                revision = await migrate.current_revision(connection)
        except DatabaseUnavailableError as error:
            return {"database": error.message}
        newest = migrate.newest_revision()
        schema = "ok" if revision == newest else f"the schema is at {revision}, not at {newest}; run opsfleet migrate"
        checks = {"database": "ok", "schema": schema}
        if revision is not None:
            polling = (await self._workers.status()).kinds.get(POLLING)
            fresh = polling is not None and polling["running"]
            checks["workers"] = "ok" if fresh or self._stands_by_well() else "no health worker has published lately"
        return checks
