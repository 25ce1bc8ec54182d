"""Organizations."""

from uuid import UUID

from opsfleet.store.database import Connection


async def exists(connection: Connection, organization_id: UUID) -> bool:
    """Say whether there is an organization of this id."""
    return bool(await connection.fetchval("SELECT true FROM organizations WHERE id = $1", organization_id))


async def slug(connection: Connection, organization_id: UUID) -> str | None:
    """Return the organization's short name, which is unique; None when there is no such organization."""
    found: str | None = await connection.fetchval("SELECT slug FROM organizations WHERE id = $1", organization_id)
    return found
