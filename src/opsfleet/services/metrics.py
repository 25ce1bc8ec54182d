"""Metrics: collecting from a server now, and recording what collections found."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from opsfleet.domain.errors import (
    ChangedMeanwhileError,
    DatabaseUnavailableError,
    NotActiveError,
    NotFoundError,
)
from opsfleet.domain.metrics import MetricsCollection, minute_of
from opsfleet.domain.partitions import Month
from opsfleet.polling import PollingEngine
from opsfleet.services.health import CheckBrokeError
from opsfleet.services.leases import Lease
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.metric_reports import collection_of
from opsfleet.services.targets import polled_server
from opsfleet.store import metrics, servers, targets
from opsfleet.store.database import Database
from opsfleet.store.metrics import CollectionToWrite, Written
from opsfleet.store.partitions import MissingPartitionError
from opsfleet.vault import Vault


class MetricsService:
    """Collects from servers on request and records collections, one at a time or in batches."""

    def __init__(
        self, database: Database, engine: PollingEngine, vault: Vault, maintenance: MaintenanceService
    ) -> None:
        self._database = database
        self._engine = engine
        self._vault = vault
        self._maintenance = maintenance

    async def collect_now(self, organization_id: UUID, server_id: UUID) -> MetricsCollection:
        """Collect from one server now, record the result and return it.

        Raises:
            NotFoundError: when the organization has no such server.
            NotActiveError: when it is inactive or in maintenance.
            ChangedMeanwhileError: when it was changed or removed meanwhile; nothing was recorded.
            CheckBrokeError: when the control plane could not ask.
        """
        async with self._database.connection() as connection:
            row = await targets.get(connection, organization_id, server_id)
            if row is None:
                server = await servers.get(connection, organization_id, server_id)
                if server is None:
                    raise NotFoundError(f"there is no server {server_id}")
                raise NotActiveError(f"{server.name} is {server.status.value}; only active servers are asked")
        polled = polled_server(row, self._vault)
        source = polled.source
        minute = minute_of(datetime.now(UTC))
        outcome = await self._engine.poll(polled.target, source.metrics_path)
        collection = collection_of(outcome, server_id, minute, source.read_metrics)
        if collection is None:
            raise CheckBrokeError(outcome.fault.message if outcome.fault else "the collection could not be made")
        written = await self._repairing([CollectionToWrite(collection, row.revision, None)], None)
        if written is not None and server_id in written.stale:
            raise ChangedMeanwhileError(f"{row.name} was changed or removed meanwhile; collect again")
        return collection

    async def record(
        self, batch: Sequence[CollectionToWrite], *, repeated: bool = False, lease: Lease | None = None
    ) -> Written | None:
        """Record a batch of collections in one transaction; None when it turns out to have been stored already.

        `repeated` says that an earlier attempt may have succeeded after all.

        Raises:
            LeaseLostError: when `lease` is no longer the current one; nothing was stored.
            DatabaseUnavailableError: when it could not be stored now; nothing is half-done.
        """
        return await self._repairing(batch, _batch_id(batch), repeated=repeated, lease=lease)

    async def _repairing(
        self,
        batch: Sequence[CollectionToWrite],
        batch_id: UUID | None,
        *,
        repeated: bool = False,
        lease: Lease | None = None,
    ) -> Written | None:
        try:
            return await self._write(batch, batch_id, repeated=repeated, lease=lease)
        except MissingPartitionError:
            await self._maintenance.repair({Month.of(item.collection.minute) for item in batch})
        try:
            return await self._write(batch, batch_id, repeated=repeated, lease=lease)
        except MissingPartitionError as error:
            # Somebody drops faster than we make: the results wait, as while the database is away.
            raise DatabaseUnavailableError(f"a partition is missing again: {error}") from error

    async def _write(
        self, batch: Sequence[CollectionToWrite], batch_id: UUID | None, *, repeated: bool, lease: Lease | None
    ) -> Written | None:
        async with self._database.transaction(repeatable=True) as connection:
            if lease is not None:
                await lease.confirm(connection)
            if repeated and batch_id is not None and await metrics.is_written(connection, batch_id):
                return None
            return await metrics.write(connection, batch, batch_id=batch_id)


def _batch_id(batch: Sequence[CollectionToWrite]) -> UUID:
    """Return an id that only a batch of the same collections has: of its ends and its length."""
    first, last = batch[0].collection, batch[-1].collection
    text = f"{first.server_id} {first.at.isoformat()} {last.server_id} {last.at.isoformat()} {len(batch)}"
    return UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest())
