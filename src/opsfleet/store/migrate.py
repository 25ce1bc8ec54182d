"""Bringing a database's schema up to date.

Alembic is used only when there is something to do, and in a process of its own: it would stay in memory for good, and
the control plane needs it for a moment of its first start.
"""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import asyncpg

from opsfleet.store.database import Connection, Database

OLDEST_POSTGRESQL = 15
NEWEST_POSTGRESQL = 18

_VERSIONS = Path(__file__).parent / "migrations" / "versions"


class MigrationError(Exception):
    """The schema cannot be brought up to date; the message is one sentence with the remedy."""


async def migrate(database: Database) -> str:
    """Bring the schema up to date and return its revision. Several processes may call this at once.

    Raises:
        MigrationError: when the database is too old, or newer than this program.
        DatabaseUnavailableError: when it cannot be reached.
    """
    async with database.connection() as connection:
        await _check_server(connection)
        current = await current_revision(connection)
    newest = newest_revision()
    if current == newest:
        return newest
    if current is not None and current not in known_revisions():
        raise MigrationError(
            f"the database's schema is at revision {current}, which this version of opsfleet does not know; "
            "run the newer version that made it"
        )
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        await asyncio.get_running_loop().run_in_executor(process, _upgrade, database.dsn)
    return newest


async def current_revision(connection: Connection) -> str | None:
    """Return the revision of the database's schema, or None when it has none yet."""
    try:
        revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return str(revision) if revision is not None else None


@cache
def known_revisions() -> tuple[str, ...]:
    """Return the revisions that this version of the program knows, oldest first: the numbers of their modules."""
    return tuple(sorted(path.name.partition("_")[0] for path in _VERSIONS.glob("[0-9]*.py")))


def newest_revision() -> str:
    """Return the revision that this version of the program works with."""
    return known_revisions()[-1]


async def _check_server(connection: Connection) -> None:
    major = connection.get_server_version().major
    if major < OLDEST_POSTGRESQL:
        raise MigrationError(
            f"PostgreSQL {major} is too old; versions {OLDEST_POSTGRESQL} to {NEWEST_POSTGRESQL} are supported"
        )
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise MigrationError(f"the database's encoding is {encoding}; it must be UTF8")


def _upgrade(dsn: str) -> None:
    """Upgrade to the newest revision (in a process of its own)."""
    from opsfleet.store.migrations import upgrade  # noqa: PLC0415 - see the module's docstring

    asyncio.run(upgrade.to_head(dsn))
