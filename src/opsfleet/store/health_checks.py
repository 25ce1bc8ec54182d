"""Health checks: writing what the worker found, and their history.

Writing has a short way and a careful way. Nearly all results confirm what is known, so the short way is one UPDATE that
names the revision and health it expects, and one COPY. When the UPDATE touches fewer rows than expected, something
changed meanwhile: then the careful way locks and looks.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from opsfleet.domain.health import HealthCheck, HealthStatus
from opsfleet.store import unmonitored
from opsfleet.store.database import Connection

TABLE = "server_health_checks"

_COLUMNS = (
    "server_id",
    "timestamp",
    "status",
    "response_time_ms",
    "database_healthy",
    "redis_healthy",
    "services_healthy",
    "error_message",
    "error_details",
)


class CheckToWrite:
    """A check, the `revision` of the server it was made of, and whether it may change the server's health.

    `known` and `known_version` are the health and version that the writer believes stored. A check of a suspect cycle
    is not `judged`. `gap_after` is given when the writer believes that nobody checked the server for longer than that:
    if it is so, the time is recorded as not monitored.
    """

    __slots__ = ("check", "gap_after", "judged", "known", "known_version", "revision")

    def __init__(
        self,
        check: HealthCheck,
        revision: int,
        known: HealthStatus | None,
        known_version: str | None = None,
        *,
        judged: bool = True,
        gap_after: timedelta | None = None,
    ) -> None:
        self.check = check
        self.revision = revision
        self.known = known
        self.known_version = known_version
        self.judged = judged
        self.gap_after = gap_after

    @property
    def is_steady(self) -> bool:
        """Whether the check only confirms what is believed stored."""
        check = self.check
        return (
            self.judged
            and self.gap_after is None
            and self.known is check.status
            and (check.version is None or check.version == self.known_version)
        )


class AlreadyStoredError(Exception):
    """One of the checks is there already: write the batch again, with care."""


class Written:
    """What became of a batch: the servers whose check was stale or late, and what changed.

    `changed` are the checks that changed more of a server than its times, `transitions` the changes of health.
    A `stale` check is of a server as it no longer is and left no trace; a `late` one is older than the server's newest
    check, so it is in the history and changed nothing else.
    """

    __slots__ = ("changed", "late", "stale", "transitions")

    def __init__(self) -> None:
        self.changed: list[CheckToWrite] = []
        self.late: set[UUID] = set()
        self.stale: set[UUID] = set()
        self.transitions: list[tuple[UUID, HealthStatus | None, HealthStatus]] = []


async def write(connection: Connection, batch: Sequence[CheckToWrite], *, careful: bool = False) -> Written:
    """Write a batch of checks inside the caller's transaction.

    For each check: its row, the server's health columns and, when the health changed, a transition; after a gap, also
    the time in which nobody looked. A check of a server that was changed, deactivated or removed since leaves no trace
    and is named in `Written.stale`. With `careful`, rows that are there already are left as they are, so that a batch
    of unknown fate can be written again.

    Raises:
        AlreadyStoredError: without `careful`, when a row is there already; the transaction is to be rolled back.
    """
    written = Written()
    if not batch:
        return written
    steady: list[CheckToWrite] = []
    others: list[CheckToWrite] = []
    for item in batch:
        (steady if not careful and item.is_steady else others).append(item)
    fresh: list[HealthCheck] = []
    if steady:
        if await _confirm(connection, steady):
            fresh.extend(item.check for item in steady)
        else:
            others = list(batch)
    # The careful way takes each server once at a time.
    while others:
        turn: dict[UUID, CheckToWrite] = {}
        rest: list[CheckToWrite] = []
        for item in others:
            if item.check.server_id in turn:
                rest.append(item)
            else:
                turn[item.check.server_id] = item
        fresh.extend(await _judge(connection, turn, written))
        others = rest
    await _store(connection, fresh, careful=careful)
    return written


async def _confirm(connection: Connection, batch: Sequence[CheckToWrite]) -> bool:
    """Note the checks of servers whose health stays as it is; False, with nothing done, when one is not as expected."""
    by_status: dict[HealthStatus, list[CheckToWrite]] = {}
    for item in batch:
        by_status.setdefault(item.check.status, []).append(item)
    savepoint = connection.transaction()
    await savepoint.start()
    for status, items in by_status.items():
        # Moments travel as microseconds: the driver takes four times as long over a timestamp.
        tag = await connection.execute(
            """
            UPDATE managed_servers AS server
            SET last_health_check_at = 'epoch'::timestamptz + result.at * interval '1 microsecond',
                last_seen_at = CASE WHEN $4 = 'unreachable' THEN server.last_seen_at
                    ELSE 'epoch'::timestamptz + result.at * interval '1 microsecond' END
            FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS result (id, revision, at)
            WHERE server.id = result.id AND server.status = 'active' AND server.health_status = $4
                AND server.updated_at = 'epoch'::timestamptz + result.revision * interval '1 microsecond'
                AND (server.last_health_check_at IS NULL
                    OR server.last_health_check_at < 'epoch'::timestamptz + result.at * interval '1 microsecond')
            """,
            [item.check.server_id for item in items],
            [item.revision for item in items],
            [round(item.check.timestamp.timestamp() * 1e6) for item in items],
            status,
        )
        if int(tag.rpartition(" ")[2]) != len(items):
            await savepoint.rollback()
            return False
    await savepoint.commit()
    return True


async def _judge(connection: Connection, batch: dict[UUID, CheckToWrite], written: Written) -> list[HealthCheck]:
    """Lock the servers, change what is still fresh, and return the checks that belong into the history."""
    rows = await connection.fetch(
        """
        SELECT server.id, server.organization_id, server.health_status, server.last_health_check_at
        FROM managed_servers AS server
        JOIN unnest($1::uuid[], $2::bigint[]) AS result (id, revision)
            ON server.id = result.id
                AND server.updated_at = 'epoch'::timestamptz + result.revision * interval '1 microsecond'
        WHERE server.status = 'active'
        ORDER BY server.id
        FOR NO KEY UPDATE OF server
        """,
        list(batch),
        [item.revision for item in batch.values()],
    )
    found = {row["id"]: row for row in rows}
    written.stale.update(server_id for server_id in batch if server_id not in found)
    kept = [batch[server_id].check for server_id in found]
    fresh: list[CheckToWrite] = []
    for server_id, row in found.items():
        newest = row["last_health_check_at"]
        if newest is not None and newest >= batch[server_id].check.timestamp:
            written.late.add(server_id)
        else:
            fresh.append(batch[server_id])
    written.changed.extend(fresh)
    changed: list[tuple[UUID, UUID, str | None, str, datetime, str | None]] = []
    gaps: list[tuple[UUID, datetime, datetime]] = []
    for item in fresh:
        row = found[item.check.server_id]
        last = row["last_health_check_at"]
        if item.gap_after is not None and last is not None and item.check.timestamp - last > item.gap_after:
            gaps.append((item.check.server_id, last, item.check.timestamp))
        if item.judged and row["health_status"] != item.check.status:
            before = HealthStatus(row["health_status"]) if row["health_status"] else None
            check = item.check
            written.transitions.append((check.server_id, before, check.status))
            changed.append(
                (check.server_id, row["organization_id"], before, check.status, check.timestamp, check.error_message)
            )
    await connection.execute(
        """
        UPDATE managed_servers AS server
        SET last_health_check_at = result.at,
            last_seen_at = CASE WHEN result.health = 'unreachable' THEN server.last_seen_at ELSE result.at END,
            version = coalesce(result.version, server.version),
            health_status = CASE WHEN result.judged THEN result.health ELSE server.health_status END,
            unreachable_since = CASE
                WHEN NOT result.judged THEN server.unreachable_since
                WHEN result.health = 'unreachable' THEN coalesce(server.unreachable_since, result.at)
            END
        FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::boolean[])
            AS result (id, at, health, version, judged)
        WHERE server.id = result.id
        """,
        [item.check.server_id for item in fresh],
        [item.check.timestamp for item in fresh],
        [item.check.status for item in fresh],
        [item.check.version for item in fresh],
        [item.judged for item in fresh],
    )
    if changed:
        await connection.executemany(
            """
            INSERT INTO health_transitions (server_id, organization_id, from_status, to_status, at, reason)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
            """,
            changed,
        )
    if gaps:
        await unmonitored.insert(connection, gaps)
    return kept


async def _store(connection: Connection, checks: Sequence[HealthCheck], *, careful: bool) -> None:
    if not checks:
        return
    if not careful:
        try:
            await connection.copy_records_to_table(TABLE, columns=_COLUMNS, records=map(_record, checks))
        except asyncpg.UniqueViolationError as error:
            raise AlreadyStoredError from error
        return
    await connection.executemany(
        f"INSERT INTO {TABLE} ({', '.join(_COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
        "ON CONFLICT DO NOTHING",
        map(_record, checks),
    )


def _record(check: HealthCheck) -> tuple[Any, ...]:
    return (
        check.server_id,
        check.timestamp,
        check.status,
        check.response_time_ms,
        check.database_healthy,
        check.redis_healthy,
        check.services_healthy,
        check.error_message,
        check.error_details,
    )


async def history(
    connection: Connection,
    organization_id: UUID,
    server_id: UUID,
    *,
    start: datetime,
    end: datetime,
    before: datetime | None,
    limit: int,
) -> list[HealthCheck]:
    """Return a server's checks in `[start, end)`, newest first; those older than `before` when it is given."""
    rows: Iterable[Any] = await connection.fetch(
        f"""
        SELECT {", ".join(_COLUMNS)} FROM {TABLE}
        WHERE server_id = (SELECT id FROM managed_servers WHERE organization_id = $1 AND id = $2)
            AND timestamp >= $3 AND timestamp < least($4::timestamptz, $5::timestamptz)
        ORDER BY timestamp DESC LIMIT $6
        """,
        organization_id,
        server_id,
        start,
        end,
        before,
        limit,
    )
    return [
        HealthCheck(
            server_id=row["server_id"],
            timestamp=row["timestamp"],
            status=HealthStatus(row["status"]),
            response_time_ms=row["response_time_ms"],
            database_healthy=row["database_healthy"],
            redis_healthy=row["redis_healthy"],
            services_healthy=row["services_healthy"],
            error_message=row["error_message"],
            error_details=row["error_details"],
        )
        for row in rows
    ]
