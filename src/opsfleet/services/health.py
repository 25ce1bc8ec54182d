"""Health: checking a server now, and recording what checks found."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from opsfleet.domain.errors import ChangedMeanwhileError, FleetError, NotActiveError, NotFoundError
from opsfleet.domain.health import HealthCheck
from opsfleet.polling import PollingEngine
from opsfleet.services.leases import Lease
from opsfleet.services.reports import check_of
from opsfleet.services.targets import polled_server
from opsfleet.store import health_checks, servers, targets, transitions
from opsfleet.store.database import Connection, Database
from opsfleet.store.health_checks import AlreadyStoredError, CheckToWrite, Written
from opsfleet.store.transitions import Transition
from opsfleet.vault import Vault, VaultError

logger = structlog.get_logger(__name__)


class CheckBrokeError(FleetError):
    """The check itself could not be made, for a reason on our side."""

    code = "check_failed"


class HealthService:
    """Checks servers on request and records results, one at a time or in batches.

    When a check on request comes longer than `gap_after` after the one before, nobody looked in between.
    """

    def __init__(
        self, database: Database, engine: PollingEngine, vault: Vault, *, gap_after: timedelta | None = None
    ) -> None:
        self._database = database
        self._engine = engine
        self._vault = vault
        self._gap_after = gap_after

    async def check_now(self, organization_id: UUID, server_id: UUID) -> HealthCheck:
        """Check one server now, record the result and return it.

        Raises:
            NotFoundError: when the organization has no such server.
            NotActiveError: when it is inactive or in maintenance.
            ChangedMeanwhileError: when it was changed or removed during the check; nothing was recorded.
            CheckBrokeError: when the control plane could not make the check.
        """
        async with self._database.connection() as connection:
            row = await targets.get(connection, organization_id, server_id)
            if row is None:
                server = await servers.get(connection, organization_id, server_id)
                if server is None:
                    raise NotFoundError(f"there is no server {server_id}")
                raise NotActiveError(f"{server.name} is {server.status.value}; only active servers are checked")
        try:
            polled = polled_server(row, self._vault)
        except (VaultError, ValueError) as error:
            raise CheckBrokeError(f"{row.name} cannot be checked: {error}") from error
        source = polled.source
        outcome = await self._engine.poll(polled.target, source.health_path)
        check = check_of(outcome, server_id, source.judge)
        if check is None:
            raise CheckBrokeError(outcome.fault.message if outcome.fault else "the check could not be made")
        item = CheckToWrite(check, row.revision, row.health_status, row.version, gap_after=self._gap_after)
        written = await self.record([item])
        if server_id in written.stale:
            raise ChangedMeanwhileError(f"{row.name} was changed or removed during the check; check it again")
        return check

    async def record(
        self, batch: Sequence[CheckToWrite], *, repeated: bool = False, lease: Lease | None = None
    ) -> Written:
        """Record a batch of checks in one transaction; `repeated` when it may have been stored already.

        Raises:
            LeaseLostError: when `lease` is no longer the current one; nothing was stored.
            DatabaseUnavailableError: when it could not be stored now; nothing is half-done.
        """
        try:
            async with self._database.transaction(repeatable=True) as connection:
                if lease is not None:
                    await lease.confirm(connection)
                written = await health_checks.write(connection, batch, careful=repeated)
        except AlreadyStoredError:
            async with self._database.transaction(repeatable=True) as connection:
                if lease is not None:
                    await lease.confirm(connection)
                written = await health_checks.write(connection, batch, careful=True)
        return written

    async def history(
        self,
        organization_id: UUID,
        server_id: UUID,
        *,
        start: datetime,
        end: datetime,
        before: datetime | None,
        limit: int,
    ) -> list[HealthCheck]:
        """Return a server's checks in `[start, end)`, newest first.

        Raises:
            NotFoundError: when the organization has no such server.
        """
        async with self._database.connection() as connection:
            await self._require(connection, organization_id, server_id)
            return await health_checks.history(
                connection, organization_id, server_id, start=start, end=end, before=before, limit=limit
            )

    async def transitions(
        self,
        organization_id: UUID,
        server_id: UUID,
        *,
        start: datetime,
        end: datetime,
        before: datetime | None,
        limit: int,
    ) -> list[Transition]:
        """Return a server's changes of health in `[start, end)`, newest first.

        Raises:
            NotFoundError: when the organization has no such server.
        """
        async with self._database.connection() as connection:
            await self._require(connection, organization_id, server_id)
            return await transitions.select(
                connection, organization_id, server_id, start=start, end=end, before=before, limit=limit
            )

    @staticmethod
    async def _require(connection: Connection, organization_id: UUID, server_id: UUID) -> None:
        if await servers.get(connection, organization_id, server_id) is None:
            raise NotFoundError(f"there is no server {server_id}")
