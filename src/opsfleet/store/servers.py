"""Managed servers on behalf of a tenant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from opsfleet.domain.errors import NameTakenError
from opsfleet.domain.health import HealthStatus
from opsfleet.domain.servers import Server, ServerKind, ServerStatus
from opsfleet.store.database import Connection

_COLUMNS = (
    "id, organization_id, name, description, hostname, api_url, ca_certificate, version, region, environment, kind, "
    "status, health_status, last_seen_at, last_health_check_at, unreachable_since, tags, metadata, created_at, "
    "updated_at"
)

SORTS = {
    "name": ("name", "text"),
    "hostname": ("hostname", "text"),
    "region": ("coalesce(region, '')", "text"),
    "environment": ("coalesce(environment, '')", "text"),
    "health_status": ("coalesce(health_status, '')", "text"),
    "created_at": ("created_at", "timestamptz"),
    "last_seen_at": ("coalesce(last_seen_at, '-infinity')", "timestamptz"),
    "last_health_check_at": ("coalesce(last_health_check_at, '-infinity')", "timestamptz"),
}
"""What a list can be sorted by: the expression, which is never null, and the type of its values."""


@dataclass(frozen=True, slots=True)
class NewServer:
    """A row to be inserted."""

    id: UUID
    name: str
    description: str
    hostname: str
    api_url: str
    api_token_hash: bytes | None
    api_token_ciphertext: bytes | None
    kind: ServerKind
    ca_certificate: str | None
    region: str | None
    environment: str | None
    tags: Sequence[str]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServerFilter:
    """Which servers of an organization; an empty part does not restrict. `tags` must all be there."""

    status: Sequence[str] = ()
    health_status: Sequence[str] = ()
    region: Sequence[str] = ()
    environment: Sequence[str] = ()
    tags: Sequence[str] = ()
    q: str | None = None
    kind: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A page in the order of `sort` and then id. `after` is the sort value (as text) and the id of the row before."""

    sort: str = "name"
    descending: bool = False
    limit: int = 100
    after: tuple[str, UUID] | None = None


async def insert(connection: Connection, organization_id: UUID, server: NewServer) -> Server:
    """Insert one server and return it.

    Raises:
        NameTakenError: when the organization already has a server of that name.
    """
    try:
        row = await connection.fetchrow(
            f"""
            INSERT INTO managed_servers (id, organization_id, name, description, hostname, api_url, api_token_hash,
                api_token_ciphertext, kind, ca_certificate, region, environment, tags, metadata)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            RETURNING {_COLUMNS}
            """,
            server.id,
            organization_id,
            server.name,
            server.description,
            server.hostname,
            server.api_url,
            server.api_token_hash,
            server.api_token_ciphertext,
            server.kind,
            server.ca_certificate,
            server.region,
            server.environment,
            list(server.tags),
            dict(server.metadata),
        )
    except asyncpg.UniqueViolationError:
        raise _name_taken(server.name) from None
    assert row is not None
    return _server(row)


async def insert_many(connection: Connection, organization_id: UUID, servers: Sequence[NewServer]) -> None:
    """Insert many servers, all or none.

    Raises:
        NameTakenError: when a name is there already (taken by somebody else since it was looked up).
    """
    try:
        await connection.copy_records_to_table(
            "managed_servers",
            columns=[
                "id", "organization_id", "name", "description", "hostname", "api_url", "api_token_hash",
                "api_token_ciphertext", "kind", "ca_certificate", "region", "environment", "tags", "metadata",
            ],
            records=[
                (
                    server.id, organization_id, server.name, server.description, server.hostname, server.api_url,
                    server.api_token_hash, server.api_token_ciphertext, server.kind, server.ca_certificate,
                    server.region, server.environment, list(server.tags), dict(server.metadata),
                )
                for server in servers
            ],
        )  # fmt: skip
    except asyncpg.UniqueViolationError as error:
        raise NameTakenError(f"a server of that name was added meanwhile ({error.detail})") from None


async def taken_names(connection: Connection, organization_id: UUID, names: Sequence[str]) -> set[str]:
    """Return those of `names` that the organization has already."""
    rows = await connection.fetch(
        "SELECT name FROM managed_servers WHERE organization_id = $1 AND name = ANY($2::text[])", organization_id, names
    )
    return {row["name"] for row in rows}


async def get(connection: Connection, organization_id: UUID, server_id: UUID) -> Server | None:
    """Return one server of the organization."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM managed_servers WHERE organization_id = $1 AND id = $2", organization_id, server_id
    )
    return _server(row) if row else None


async def lacks_token(connection: Connection, organization_id: UUID, server_id: UUID) -> bool:
    """Say whether no token is stored for a server of the organization; False when there is no such server."""
    return bool(
        await connection.fetchval(
            "SELECT api_token_ciphertext IS NULL FROM managed_servers WHERE organization_id = $1 AND id = $2",
            organization_id,
            server_id,
        )
    )


async def find(connection: Connection, organization_id: UUID, name: str) -> Server | None:
    """Return the organization's server of that name."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM managed_servers WHERE organization_id = $1 AND name = $2", organization_id, name
    )
    return _server(row) if row else None


async def select(connection: Connection, organization_id: UUID, wanted: ServerFilter, page: Page) -> list[Server]:
    """Return one page of the organization's servers, by keyset, so that it is stable while rows come and go."""
    where, values = _where(organization_id, wanted)
    expression, kind = SORTS[page.sort]
    if page.after is not None:
        values += [page.after[0], page.after[1]]
        sign = "<" if page.descending else ">"
        where += f" AND ({expression}, id) {sign} (${len(values) - 1}::text::{kind}, ${len(values)}::uuid)"
    direction = "DESC" if page.descending else "ASC"
    values.append(page.limit)
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM managed_servers WHERE {where} "
        f"ORDER BY {expression} {direction}, id {direction} LIMIT ${len(values)}",
        *values,
    )
    return [_server(row) for row in rows]


async def count(connection: Connection, organization_id: UUID, wanted: ServerFilter) -> int:
    """Return how many servers of the organization match."""
    where, values = _where(organization_id, wanted)
    return int(await connection.fetchval(f"SELECT count(*) FROM managed_servers WHERE {where}", *values) or 0)


async def update(
    connection: Connection, organization_id: UUID, server_id: UUID, changes: Mapping[str, Any]
) -> Server | None:
    """Change some columns of a server and return it, or None when the organization has no such server.

    `updated_at` always moves on, so that checks under way notice.

    Raises:
        NameTakenError: when the new name is taken.
    """
    values: list[Any] = [organization_id, server_id]
    assignments = ["updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')"]
    for column, value in changes.items():
        values.append(value)
        assignments.append(f"{_writable(column)} = ${len(values)}")
    try:
        row = await connection.fetchrow(
            f"UPDATE managed_servers SET {', '.join(assignments)} WHERE organization_id = $1 AND id = $2 "
            f"RETURNING {_COLUMNS}",
            *values,
        )
    except asyncpg.UniqueViolationError:
        raise _name_taken(str(changes["name"])) from None
    return _server(row) if row else None


async def delete(connection: Connection, organization_id: UUID, server_id: UUID) -> bool:
    """Remove a server and note that its history is to go; False when the organization has no such server."""
    return bool(
        await connection.fetchval(
            """
            WITH removed AS (
                DELETE FROM managed_servers WHERE organization_id = $1 AND id = $2 RETURNING id, organization_id
            )
            INSERT INTO removed_servers (server_id, organization_id) SELECT id, organization_id FROM removed
            RETURNING true
            """,
            organization_id,
            server_id,
        )
    )


async def summary(connection: Connection, organization_id: UUID) -> list[tuple[ServerStatus, str | None, int]]:
    """Return the number of servers of the organization by status and health."""
    rows = await connection.fetch(
        "SELECT status, health_status, servers FROM v_fleet_summary WHERE organization_id = $1", organization_id
    )
    return [(ServerStatus(row["status"]), row["health_status"], row["servers"]) for row in rows]


_WRITABLE = frozenset(
    {
        "name", "description", "hostname", "api_url", "api_token_hash", "api_token_ciphertext", "ca_certificate",
        "kind", "region", "environment", "status", "tags", "metadata",
    }
)  # fmt: skip


def _writable(column: str) -> str:
    if column not in _WRITABLE:
        raise ValueError(f"{column} is not a column that people change")
    return column


def _where(organization_id: UUID, wanted: ServerFilter) -> tuple[str, list[Any]]:
    values: list[Any] = [organization_id]
    parts = ["organization_id = $1"]
    for column in ("status", "health_status", "region", "environment", "kind"):
        accepted = getattr(wanted, column)
        if accepted:
            values.append(list(accepted))
            parts.append(f"{column} = ANY(${len(values)}::text[])")
    if wanted.tags:
        values.append(list(wanted.tags))
        parts.append(f"tags @> ${len(values)}::jsonb")
    if wanted.q:
        escaped = wanted.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        values.append(f"%{escaped}%")
        parts.append(
            f"(name ILIKE ${len(values)} OR hostname ILIKE ${len(values)} OR description ILIKE ${len(values)})"
        )
    return " AND ".join(parts), values


def _name_taken(name: str) -> NameTakenError:
    return NameTakenError(f"a server named {name!r} is registered already")


def _server(row: "asyncpg.Record") -> Server:
    health: str | None = row["health_status"]
    return Server(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        description=row["description"],
        hostname=row["hostname"],
        api_url=row["api_url"],
        ca_certificate=row["ca_certificate"],
        version=row["version"],
        region=row["region"],
        environment=row["environment"],
        kind=ServerKind(row["kind"]),
        status=ServerStatus(row["status"]),
        health_status=HealthStatus(health) if health else None,
        last_seen_at=row["last_seen_at"],
        last_health_check_at=row["last_health_check_at"],
        unreachable_since=row["unreachable_since"],
        tags=row["tags"],
        metadata=row["metadata"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
