"""Schedules that one process at a time works off: pgqueuer's scheduler on a connection of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.sm import SchedulerManager
from pgqueuer.domain.settings import DBSettings
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.store.database import Database


class _Settings(DBSettings):
    """The library's names of tables as they are by default, whatever the environment says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from nowhere but the constructor."""
        return (init_settings,)


SETTINGS = _Settings()


@asynccontextmanager
async def scheduler(database: Database) -> AsyncIterator[SchedulerManager]:
    """Lend a scheduler that has a connection of its own until the end of the block.

    Raises:
        DatabaseUnavailableError: when the database cannot be reached, or the connection broke meanwhile.
    """
    connection = await database.listen()
    try:
        yield SchedulerManager(
            Queries(
                AsyncpgDriver(connection),
                qbe=QueryBuilderEnvironment(SETTINGS),
                qbq=QueryQueueBuilder(SETTINGS),
                qbs=QuerySchedulerBuilder(SETTINGS),
            )
        )
    except Exception as error:
        if connection.is_closed():
            raise DatabaseUnavailableError(f"the database is away: {error}") from error
        raise
    finally:
        connection.terminate()
