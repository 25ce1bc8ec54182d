"""Servers as the workers see them: all organizations' active ones, with what is needed to call them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.servers import ServerKind
from opsfleet.store.database import Connection

CHANGES = "fleet_registry"
"""The channel on which PostgreSQL announces that the registry changed (by a trigger, so by whatever way)."""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One active server.

    `revision` is its `updated_at` in microseconds since the epoch: a check of another revision is stale.
    """

    id: UUID
    revision: int
    organization_id: UUID
    name: str
    kind: ServerKind
    api_url: str
    api_token_ciphertext: bytes | None = field(repr=False)
    ca_certificate: str | None = field(repr=False)
    version: str | None
    health_status: HealthStatus | None
    last_health_check_at: datetime | None
    last_seen_at: datetime | None


_REVISION = "(extract(epoch FROM updated_at) * 1000000)::bigint AS revision"
_COLUMNS = (
    f"id, {_REVISION}, organization_id, name, kind, api_url, api_token_ciphertext, ca_certificate, version, "
    "health_status, last_health_check_at, last_seen_at"
)


async def revisions(connection: Connection) -> list[tuple[UUID, int]]:
    """Return id and revision of every active server."""
    rows = await connection.fetch(f"SELECT id, {_REVISION} FROM managed_servers WHERE status = 'active'")
    return [(row[0], row[1]) for row in rows]


async def select(connection: Connection, ids: Sequence[UUID]) -> list[TargetRow]:
    """Return those of the servers that are active."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM managed_servers WHERE status = 'active' AND id = ANY($1::uuid[])", ids
    )
    return [_target(row) for row in rows]


async def get(connection: Connection, organization_id: UUID, server_id: UUID) -> TargetRow | None:
    """Return one active server of the organization."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM managed_servers WHERE status = 'active' AND organization_id = $1 AND id = $2",
        organization_id,
        server_id,
    )
    return _target(row) if row else None


async def follow(connection: "asyncpg.Connection[asyncpg.Record]", changed: Callable[[], None]) -> asyncio.Event:
    """Call `changed` whenever the registry changed; the event returned is set when `connection` is lost."""
    ended = asyncio.Event()

    def notified(*_: Any) -> None:
        changed()

    connection.add_termination_listener(lambda _: ended.set())
    await connection.add_listener(CHANGES, notified)
    return ended


def _target(row: Any) -> TargetRow:
    health = row["health_status"]
    return TargetRow(
        id=row["id"],
        revision=row["revision"],
        organization_id=row["organization_id"],
        name=row["name"],
        kind=ServerKind(row["kind"]),
        api_url=row["api_url"],
        api_token_ciphertext=row["api_token_ciphertext"],
        ca_certificate=row["ca_certificate"],
        version=row["version"],
        health_status=HealthStatus(health) if health else None,
        last_health_check_at=row["last_health_check_at"],
        last_seen_at=row["last_seen_at"],
    )
