"""Facts about the database itself."""

from dataclasses import dataclass

from opsfleet.store.database import Connection
from opsfleet.store.migrate import current_revision, newest_revision


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """`clock` is the database's, in seconds since the epoch; `megabytes` is the database's size on disk."""

    server_version: str
    megabytes: float
    clock: float
    revision: str | None
    newest_revision: str


async def read(connection: Connection) -> DatabaseFacts:
    """Return the facts."""
    row = await connection.fetchrow(
        """
        SELECT current_setting('server_version') AS server_version,
            pg_database_size(current_database()) / 1e6 AS megabytes,
            extract(epoch FROM clock_timestamp())::double precision AS clock
        """
    )
    assert row is not None
    return DatabaseFacts(
        server_version=row["server_version"],
        megabytes=float(row["megabytes"]),
        clock=row["clock"],
        revision=await current_revision(connection),
        newest_revision=newest_revision(),
    )
