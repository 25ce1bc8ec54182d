"""Telling Prometheus which servers there are."""

from uuid import UUID

from opsfleet.domain.discovery import TargetGroup, target_group
from opsfleet.store import groups, organizations, servers
from opsfleet.store.database import Database
from opsfleet.store.servers import Page, ServerFilter

_ROWS_AT_ONCE = 500


class DiscoveryService:
    """Lists servers for Prometheus' HTTP service discovery."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def target_groups(self, organization_id: UUID, wanted: ServerFilter, port: int | None) -> list[TargetGroup]:
        """Return all matching servers of the organization in the order of their names, for the protocol has no pages.

        With a `port`, each target is that port on the server's host.
        """
        found: list[TargetGroup] = []
        after: tuple[str, UUID] | None = None
        async with self._database.connection() as connection:
            organization = await organizations.slug(connection, organization_id) or ""
            names = await groups.names_by_server(connection, organization_id)
            while True:
                # Pages, so that a long list does not hold up the polling on the same loop.
                page = Page(limit=_ROWS_AT_ONCE, after=after)
                rows = await servers.select(connection, organization_id, wanted, page)
                found += [target_group(server, organization, names.get(server.id, ()), port) for server in rows]
                if len(rows) < _ROWS_AT_ONCE:
                    return found
                after = (rows[-1].name, rows[-1].id)
