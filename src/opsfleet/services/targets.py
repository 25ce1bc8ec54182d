"""The source of targets: which servers are to be polled now, kept up to date with the registry."""

import asyncio
import time
from collections.abc import Iterable
from uuid import UUID

import structlog

from opsfleet.domain.api_urls import parse_api_url
from opsfleet.domain.cycles import network_of
from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.domain.health import HealthStatus
from opsfleet.polling import Target
from opsfleet.services.sources import SOURCES
from opsfleet.store import targets
from opsfleet.store.database import Database
from opsfleet.store.targets import TargetRow
from opsfleet.vault import Vault, VaultError

RECONCILE_SECONDS = 300.0
"""Announced changes are taken at once; this often everything is compared, should an announcement have been lost."""

LOAD_AT_ONCE = 2_000

logger = structlog.get_logger(__name__)


class PolledServer:
    """One active server as the workers know it: its target, its revision, and what is known of its health."""

    __slots__ = (
        "checked_at",
        "health",
        "id",
        "kind",
        "name",
        "network",
        "organization_id",
        "revision",
        "seen_at",
        "source",
        "target",
        "version",
    )

    def __init__(self, row: TargetRow, target: Target) -> None:
        self.id = row.id
        self.organization_id = row.organization_id
        self.name = row.name
        self.kind = row.kind
        self.source = SOURCES[row.kind]
        self.revision = row.revision
        self.version = row.version
        self.health: HealthStatus | None = row.health_status
        self.checked_at = row.last_health_check_at.timestamp() if row.last_health_check_at else 0.0
        self.seen_at = row.last_seen_at.timestamp() if row.last_seen_at else 0.0
        self.target = target
        self.network = network_of(target.host)


def polled_server(row: TargetRow, vault: Vault) -> PolledServer:
    """Return the server of a registry row, its token decrypted.

    Raises:
        VaultError: when the token cannot be decrypted with our key.
    """
    url = parse_api_url(row.api_url)
    sealed = row.api_token_ciphertext
    token = vault.decrypt(sealed, context=row.id.bytes) if sealed is not None else ""
    source = SOURCES[row.kind]
    prefix = source.prefix(url.path_prefix)
    target = Target(row.id, url.host, url.port, url.tls, prefix, token, row.ca_certificate, accept=source.accept)
    return PolledServer(row, target)


class TargetSource:
    """Keeps all active servers in memory and follows the registry's announcements.

    Reading is incremental: ids and revisions first, then only the rows that are new or changed.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._servers: dict[UUID, PolledServer] = {}
        self._unusable: dict[UUID, int] = {}
        self._changed = True
        self._compared_at = float("-inf")
        self._listening: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()

    def start(self) -> None:
        """Begin to follow the registry."""
        self._listening = asyncio.create_task(self._listen(), name="registry-changes")

    async def stop(self) -> None:
        """Stop following the registry."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None

    @property
    def unusable(self) -> int:
        """How many active servers cannot be polled, because we cannot read what is stored of them."""
        return len(self._unusable)

    async def current(self) -> tuple[Iterable[PolledServer], list[UUID]]:
        """Return the servers to poll, and the ids of those that have gone or become unusable since the last call.

        Raises:
            DatabaseUnavailableError: when the registry was never read and cannot be read now.
        """
        async with self._reading:
            gone: list[UUID] = []
            if self._changed or time.monotonic() - self._compared_at > RECONCILE_SECONDS:
                self._changed = False
                try:
                    gone = await self._compare()
                except DatabaseUnavailableError:
                    self._changed = True
                    if self._compared_at == float("-inf"):
                        raise
                    # Polling goes on with the servers known so far.
                except BaseException:
                    self._changed = True
                    raise
            return self._servers.values(), gone

    async def _compare(self) -> list[UUID]:
        async with self._database.connection() as connection:
            known, unusable = self._servers, self._unusable
            revisions = await targets.revisions(connection)
            wanted = [
                server_id
                for server_id, revision in revisions
                if ((server := known.get(server_id)) is None or server.revision != revision)
                and unusable.get(server_id) != revision
            ]
            active = {server_id for server_id, _ in revisions}
            gone = [server_id for server_id in known if server_id not in active]
            for server_id in gone:
                del known[server_id]
            for server_id in [server_id for server_id in unusable if server_id not in active]:
                del unusable[server_id]
            for start in range(0, len(wanted), LOAD_AT_ONCE):
                rows = await targets.select(connection, wanted[start : start + LOAD_AT_ONCE])
                gone += [row.id for row in rows if not self._take(row)]
        self._compared_at = time.monotonic()
        return gone

    def _take(self, row: TargetRow) -> bool:
        """Know the server of `row` from now on; False when it cannot be polled, which is logged once per revision."""
        try:
            self._servers[row.id] = polled_server(row, self._vault)
        except (VaultError, ValueError) as error:
            self._servers.pop(row.id, None)
            self._unusable[row.id] = row.revision
            logger.error(
                f"Cannot poll {row.name}: {error}", event_kind="target_unusable", server=row.name, server_id=str(row.id)
            )
            return False
        self._unusable.pop(row.id, None)
        return True

    async def _listen(self) -> None:
        while True:
            try:
                connection = await self._database.listen()
                try:
                    ended = await targets.follow(connection, self._note_change)
                    # What was announced while nobody listened is not told again.
                    self._note_change()
                    await ended.wait()
                finally:
                    connection.terminate()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # following is a convenience: comparing goes on without it
                logger.debug("Registry changes are not announced now", error=str(error))
            await asyncio.sleep(1.0)

    def _note_change(self) -> None:
        self._changed = True
