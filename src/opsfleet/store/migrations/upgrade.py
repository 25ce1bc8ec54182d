"""Runs Alembic."""

from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

_LOCK = 7_301_001
"""The advisory lock that lets one process at a time migrate a database."""


async def to_head(dsn: str) -> None:
    """Bring the schema of the database at `dsn` to the newest revision, waiting for others who do the same."""
    connection = await asyncpg.connect(dsn)

    async def hand_over(*_: Any, **__: Any) -> "asyncpg.Connection[asyncpg.Record]":
        return connection

    engine = create_async_engine("postgresql+asyncpg://", poolclass=NullPool, async_creator=hand_over)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        async with engine.connect() as session:
            await session.run_sync(_upgrade)
    finally:
        await engine.dispose()
        if not connection.is_closed():
            await connection.close()


def _upgrade(connection: sqlalchemy.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
