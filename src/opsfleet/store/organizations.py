"""Organizations."""

from uuid import UUID

from opsfleet.store.database import Connection


async def exists(connection: Connection, organization_id: UUID) -> bool:
    """Say whether there is an organization of this id."""
    return bool(await connection.fetchval("SELECT true FROM organizations WHERE id = $1", organization_id))
