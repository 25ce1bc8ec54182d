"""Worker instances and what they publish of themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from opsfleet.store.database import Connection
from opsfleet.store.leases import POLLING


@dataclass(frozen=True, slots=True)
class WorkerInstance:
    """One process: `active` when its workers poll, on `standby` to do so, or `none` when it has no workers.

    `age` is the time since it last published, by the database's clock.
    """

    id: UUID
    role: str
    host: str
    pid: int
    state: str
    started_at: datetime
    heartbeat_at: datetime
    age: timedelta
    statistics: Mapping[str, Any]


async def publish(
    connection: Connection,
    *,
    instance_id: UUID,
    role: str,
    host: str,
    pid: int,
    state: str,
    started_at: datetime,
    statistics: Mapping[str, Any],
) -> None:
    """Say that an instance lives, with its state and statistics; one that was deposed unawares is not `active`."""
    await connection.execute(
        """
        INSERT INTO fleet_workers (id, role, host, pid, started_at, heartbeat_at, statistics, state)
        VALUES ($1, $2, $3, $4, $5, clock_timestamp(), $6,
            CASE WHEN $7 = 'active' AND EXISTS (SELECT FROM worker_leases WHERE name = $8 AND holder <> $1)
                THEN 'standby' ELSE $7 END)
        ON CONFLICT (id) DO UPDATE
        SET heartbeat_at = clock_timestamp(), statistics = excluded.statistics, state = excluded.state
        """,
        instance_id,
        role,
        host,
        pid,
        started_at,
        statistics,
        state,
        POLLING,
    )


async def withdraw(connection: Connection, instance_id: UUID) -> None:
    """Remove an instance that ends in good order, and those that have been silent for a day."""
    await connection.execute(
        "DELETE FROM fleet_workers WHERE id = $1 OR heartbeat_at < now() - interval '1 day'", instance_id
    )


async def select(connection: Connection) -> list[WorkerInstance]:
    """Return all known instances, the one that published last first."""
    rows = await connection.fetch(
        """
        SELECT id, role, host, pid, state, started_at, heartbeat_at, clock_timestamp() - heartbeat_at AS age,
            statistics
        FROM fleet_workers ORDER BY heartbeat_at DESC
        """
    )
    return [WorkerInstance(**row) for row in rows]
