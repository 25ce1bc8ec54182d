"""Groups of servers."""

from uuid import UUID

from opsfleet.store.database import Connection


async def names_by_server(connection: Connection, organization_id: UUID) -> dict[UUID, list[str]]:
    """Return, of each server of the organization that is in a group, the names of its groups in their order."""
    rows = await connection.fetch(
        """
        SELECT member.server_id, array_agg(server_groups.name ORDER BY server_groups.name) AS names
        FROM v_server_group_members AS member
        JOIN server_groups ON server_groups.id = member.group_id AND server_groups.organization_id = $1
        WHERE member.organization_id = $1
        GROUP BY member.server_id
        """,
        organization_id,
    )
    return {row["server_id"]: row["names"] for row in rows}
