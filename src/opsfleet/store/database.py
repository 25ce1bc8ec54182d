"""The pool of connections to PostgreSQL, and what its absence is called."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from opsfleet.domain.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    Connection: TypeAlias = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
else:
    Connection: TypeAlias = PoolConnectionProxy | asyncpg.Connection

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.QueryCanceledError,
    OSError,
    TimeoutError,
)

_CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class Database:
    """A pool that is made on first use and survives any absence of the server.

    Every way in raises `DatabaseUnavailableError` when PostgreSQL cannot be reached, whatever the driver calls it.
    """

    def __init__(self, dsn: str, *, size: int = 10, timeout: float = 5.0, command_timeout: float = 30.0) -> None:
        self._dsn = dsn
        self._size = size
        self._timeout = timeout
        self._command_timeout = command_timeout
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    @property
    def dsn(self) -> str:
        """The address of the database, with its password: never to be shown."""
        return self._dsn

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection outside a transaction."""
        try:
            pool = await self._open()
            async with pool.acquire(timeout=self._timeout) as connection:
                yield connection
        except _AWAY as error:
            _stay_cancelled(error)
            raise DatabaseUnavailableError(f"the database is away: {_reason(error)}") from error
        except asyncpg.InterfaceError as error:
            # The driver's word for a connection that broke under our hands, and also for its misuse.
            if "closed" not in str(error) and "closing" not in str(error) and "released" not in str(error):
                raise
            _stay_cancelled(error)
            raise DatabaseUnavailableError(f"the database is away: {error}") from error

    @asynccontextmanager
    async def transaction(self, *, repeatable: bool = False) -> AsyncIterator[Connection]:
        """Lend a connection inside a transaction that commits at the end of the block.

        `repeatable` is for a caller that tries again when the database is away: that PostgreSQL ends the transaction
        because of a conflict with another one is then the same to it.
        """
        try:
            async with self.connection() as connection, connection.transaction():
                yield connection
        except _CONFLICTS as error:
            if not repeatable:
                raise
            raise DatabaseUnavailableError(f"the database asks to try again: {_reason(error)}") from error

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Lend a connection whose queries, all reads, see the same state of the database."""
        async with self.connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection

    async def listen(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return a connection of the caller's own, for LISTEN or a lock that lives as long as it."""
        try:
            return await _connect(self._dsn, timeout=self._timeout, command_timeout=self._command_timeout)
        except _AWAY as error:
            raise DatabaseUnavailableError(f"the database is away: {_reason(error)}") from error

    async def close(self) -> None:
        """Close the pool, at once when the server does not answer."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                await asyncio.wait_for(pool.close(), timeout=self._timeout)
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pool.terminate()

    async def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        self._dsn,
                        connect=_connect,
                        min_size=0,
                        max_size=self._size,
                        timeout=self._timeout,
                        command_timeout=self._command_timeout,
                        max_inactive_connection_lifetime=300,
                        init=_prepare,
                        server_settings={"application_name": "opsfleet", "timezone": "UTC", "jit": "off"},
                    )
        return self._pool


async def _connect(*arguments: Any, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect, and say of an address that the driver or the server does not take what is accepted."""
    try:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(*arguments, **options)
    except (ValueError, asyncpg.UndefinedObjectError, asyncpg.CantChangeRuntimeParamError) as error:
        # The driver's own words may hold parts of the address, and so the password.
        raise DatabaseUnavailableError(
            "the database's address, in DATABASE_URL or POSTGRES_*, is not accepted as it is; "
            "accepted is postgresql://user:password@host:5432/database, with libpq's parameters behind it"
        ) from error
    return connection


async def _prepare(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        encoder=lambda value: b"\x01" + msgspec.json.encode(value),
        decoder=lambda data: msgspec.json.decode(bytes(data)[1:]),
        schema="pg_catalog",
        format="binary",
    )


def _stay_cancelled(error: BaseException) -> None:
    """Let a cancelled task end: giving a dead connection back fails too, and the driver then tells of that alone."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
