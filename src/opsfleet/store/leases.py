"""The right to poll: a lock that one session holds, and a term that grows with every change of hands."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.store.database import Connection, Database

POLLING = "polling"

SILENT_SECONDS = 5
"""PostgreSQL ends the session of a holder that asks nothing for so long: it hangs, or a line is dead."""

FRESH_SECONDS = 15
"""An instance that has published within so many seconds counts as there."""

_LOCK = 0x6F70_7366_6C65_6574  # "opsfleet"; advisory locks are each database's own

_ANSWER_SECONDS = 2.0
_FLUSHES_SECONDS = 3

_SESSION = {
    "application_name": "opsfleet lease",
    "idle_session_timeout": f"{SILENT_SECONDS}s",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "5s",
}


class LeaseLostError(Exception):
    """Another worker has taken over: what this one found meanwhile must not be stored."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A term, and whether its holder need not wait: the one before gave the lease back in good order."""

    term: int
    in_order: bool


async def confirm(connection: Connection, term: int) -> None:
    """Make sure that `term` is the current one and stays it until the caller's transaction ends.

    Raises:
        LeaseLostError: when it is not; the transaction is to be rolled back.
    """
    current = await connection.fetchval("SELECT term FROM worker_leases WHERE name = $1 FOR SHARE", POLLING)
    if current != term:
        raise LeaseLostError(f"another worker has taken over (its term is {current}, ours was {term})")


class LockSession:
    """A session of its own that tries for the lock and, once it has it, holds it as long as it lives.

    Every method raises `DatabaseUnavailableError` when the server does not answer in time; the session is to be closed
    then.
    """

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    @classmethod
    async def open(cls, database: Database, ended: Callable[[], None]) -> "LockSession":
        """Return a new session; `ended` is called when the connection is lost."""
        connection = await database.listen()
        session = cls(connection)
        try:
            for name, value in _SESSION.items():
                async with session._answer():
                    # Without a keepalive that the server's system does not know, losses are only noticed later.
                    with suppress(asyncpg.DataError, asyncpg.UndefinedObjectError):
                        await connection.execute("SELECT set_config($1, $2, false)", name, value)
        except BaseException:
            connection.terminate()
            raise
        connection.add_termination_listener(lambda _: ended())
        return session

    @property
    def is_closed(self) -> bool:
        """Whether the connection is known to be lost."""
        return self._connection.is_closed()

    def close(self) -> None:
        """End the session at once; the lock is free when the server notices."""
        self._connection.terminate()

    async def try_lock(self) -> bool:
        """Take the lock if nobody holds it."""
        async with self._answer():
            return bool(await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK))

    async def take(self, holder: UUID, term: int | None) -> Taken:
        """Begin a new term, or go on with `term` when nobody else has had the lease since.

        Waits until the flushes of earlier terms have ended; those that hang are ended. The session must hold the lock.
        """
        try:
            return await self._take(holder, term)
        except asyncpg.LockNotAvailableError:
            async with self._answer():
                await self._connection.execute(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_locks
                    WHERE locktype = 'relation' AND relation = 'worker_leases'::regclass AND mode = 'RowShareLock'
                        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                        AND granted AND pid <> pg_backend_pid()
                    """
                )
        try:
            return await self._take(holder, term)
        except asyncpg.LockNotAvailableError as error:
            raise DatabaseUnavailableError("flushes of the worker before cannot be ended") from error

    async def _take(self, holder: UUID, term: int | None) -> Taken:
        async with self._answer(_ANSWER_SECONDS + _FLUSHES_SECONDS), self._connection.transaction():
            await self._connection.execute(f"SET LOCAL lock_timeout = '{_FLUSHES_SECONDS}s'")
            before = await self._connection.fetchrow(
                "SELECT term, holder FROM worker_leases WHERE name = $1 FOR UPDATE", POLLING
            )
            if before is not None and before["holder"] == holder and before["term"] == term:
                return Taken(before["term"], in_order=True)
            current = await self._connection.fetchval(
                """
                INSERT INTO worker_leases AS lease (name, term, holder, acquired_at)
                VALUES ($1, 1, $2, clock_timestamp())
                ON CONFLICT (name) DO UPDATE
                SET term = lease.term + 1, holder = excluded.holder, acquired_at = excluded.acquired_at
                RETURNING term
                """,
                POLLING,
                holder,
            )
            # Who was active is dead or will say anew what it is.
            await self._connection.execute("DELETE FROM fleet_workers WHERE state = 'active' AND id <> $1", holder)
            return Taken(current, in_order=before is None or before["holder"] in (None, holder))

    async def others_stand_by(self, holder: UUID) -> bool:
        """Say whether another instance stands by."""
        async with self._answer():
            found = await self._connection.fetchval(
                """
                SELECT EXISTS (
                    SELECT FROM fleet_workers WHERE state = 'standby' AND id <> $1
                        AND heartbeat_at > clock_timestamp() - $2 * interval '1 second'
                )
                """,
                holder,
                FRESH_SECONDS,
            )
            return bool(found)

    async def current_term(self) -> int:
        """Return the term of whoever holds the lease."""
        async with self._answer():
            return int(await self._connection.fetchval("SELECT term FROM worker_leases WHERE name = $1", POLLING) or 0)

    async def give_back(self, term: int) -> None:
        """End `term` in good order, so that the next need not wait, and close the session."""
        try:
            async with self._answer():
                await self._connection.execute(
                    "UPDATE worker_leases SET holder = NULL WHERE name = $1 AND term = $2", POLLING, term
                )
                await self._connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
        finally:
            self.close()

    @asynccontextmanager
    async def _answer(self, seconds: float = _ANSWER_SECONDS) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except asyncpg.LockNotAvailableError:
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:  # TimeoutError is an OSError
            raise DatabaseUnavailableError(
                f"the session of the lock is lost: {error or 'no answer in time'}"
            ) from error
