"""Bringing a database's schema up to date."""

from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from opsfleet.store.database import Connection, Database

_LOCK = 7_301_001
"""The advisory lock that lets one process at a time migrate a database."""

OLDEST_POSTGRESQL = 15
NEWEST_POSTGRESQL = 18


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
    if current is not None and current not in _known_revisions():
        raise MigrationError(
            f"the database's schema is at revision {current}, which this version of opsfleet does not know; "
            "run the newer version that made it"
        )

    connection_of_ours = await database.listen()

    async def hand_over(*_: Any, **__: Any) -> "asyncpg.Connection[asyncpg.Record]":
        return connection_of_ours

    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, async_creator=hand_over)
    try:
        await connection_of_ours.execute("SET statement_timeout = 0")
        await connection_of_ours.execute("SELECT pg_advisory_lock($1)", _LOCK)
        async with engine.connect() as session:
            await session.run_sync(_upgrade)
    finally:
        await engine.dispose()
        if not connection_of_ours.is_closed():
            await connection_of_ours.close()
    return newest


async def current_revision(connection: Connection) -> str | None:
    """Return the revision of the database's schema, or None when it has none yet."""
    try:
        revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return str(revision) if revision is not None else None


def newest_revision() -> str:
    """Return the revision that this version of the program works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _known_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


async def _check_server(connection: Connection) -> None:
    major = connection.get_server_version().major
    if not major >= OLDEST_POSTGRESQL:
        raise MigrationError(
            f"PostgreSQL {major} is too old; versions {OLDEST_POSTGRESQL} to {NEWEST_POSTGRESQL} are supported"
        )
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise MigrationError(f"the database's encoding is {encoding}; it must be UTF8")


def _upgrade(connection: sqlalchemy.Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
