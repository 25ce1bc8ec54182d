"""What is known of the worker instances: the answer to "do they run?"."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from opsfleet.domain.ids import new_id
from opsfleet.store import workers
from opsfleet.store.database import Database
from opsfleet.store.workers import WorkerInstance

KINDS = ("health_worker", "metrics_worker")

SILENT_INTERVALS = 3
"""A worker that has not published for so many of its intervals does not run."""


@dataclass(frozen=True, slots=True)
class WorkersStatus:
    """The state of both workers, each taken from the active instance that published last, and all instances."""

    kinds: Mapping[str, Mapping[str, Any]]
    instances: list[WorkerInstance]
    timestamp: datetime


class WorkerService:
    """Publishes this process's statistics, and answers for all processes."""

    def __init__(self, database: Database, role: str) -> None:
        self._database = database
        self._role = role
        self._id = new_id()
        self._started_at = datetime.now(UTC)

    @property
    def instance_id(self) -> UUID:
        """What this process is called among the instances."""
        return self._id

    async def publish(self, statistics: Mapping[str, Any], state: str) -> None:
        """Store the statistics of this process's workers, and whether it is `active`, on `standby` or neither."""
        async with self._database.connection() as connection:
            await workers.publish(
                connection,
                instance_id=self._id,
                role=self._role,
                host=socket.gethostname(),
                pid=os.getpid(),
                state=state,
                started_at=self._started_at,
                statistics=statistics,
            )

    async def withdraw(self) -> None:
        """Say that this process ends in good order."""
        async with self._database.connection() as connection:
            await workers.withdraw(connection, self._id)

    async def status(self) -> WorkersStatus:
        """Return what the instances published."""
        async with self._database.connection() as connection:
            instances = await workers.select(connection)
        kinds: dict[str, Mapping[str, Any]] = {}
        for kind in KINDS:
            for instance in instances:
                if instance.state != "active":
                    continue
                statistics = instance.statistics.get(kind)
                if statistics is not None:
                    kinds[kind] = {**statistics, "running": is_running(instance, statistics)}
                    break
        return WorkersStatus(kinds, instances, datetime.now(UTC))


def is_running(instance: WorkerInstance, statistics: Mapping[str, Any]) -> bool:
    """Say whether a worker with these statistics still runs in its process."""
    limit = SILENT_INTERVALS * float(statistics.get("interval_seconds", 0))
    return bool(statistics.get("running")) and instance.age.total_seconds() <= max(limit, 1.0)
