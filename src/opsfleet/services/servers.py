"""The registry: registering, listing, changing and removing managed servers."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography import x509

from opsfleet.domain.api_urls import parse_api_url
from opsfleet.domain.errors import (
    FieldError,
    InvalidError,
    InvalidImportError,
    NotFoundError,
    RowErrors,
)
from opsfleet.domain.ids import new_id
from opsfleet.domain.registration import Registration, change_of, registration_of, token_of
from opsfleet.domain.servers import Server, ServerKind, ServerStatus
from opsfleet.polling import NetworkPolicy
from opsfleet.polling.dns import is_address
from opsfleet.store import metrics, servers, targets
from opsfleet.store.database import Connection, Database
from opsfleet.store.servers import NewServer, Page, ServerFilter
from opsfleet.vault import Vault, VaultError, token_hash

MAX_IMPORT = 100_000
_ROWS_AT_ONCE = 500
_SHOWN_NAME = 100
"""So much of a wrong row's name is shown."""

_SHOWN_ERRORS = 10
"""So many errors of one wrong row are shown, as many as a server has fields."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of servers. `more` says whether others follow; `total` is there when it was asked for."""

    items: list[Server]
    more: bool
    total: int | None


class ServerService:
    """Decides what may be in the registry."""

    def __init__(self, database: Database, vault: Vault, policy: NetworkPolicy) -> None:
        self._database = database
        self._vault = vault
        self._policy = policy

    async def register(self, organization_id: UUID, raw: object) -> Server:
        """Register the server that an untrusted object describes.

        Raises:
            InvalidError: naming every wrong field.
            NameTakenError: when the organization already has a server of that name.
        """
        registration = registration_of(raw)
        errors = self._objections(registration.api_url, registration.ca_certificate)
        if errors:
            raise InvalidError(errors)
        async with self._database.transaction() as connection:
            return await servers.insert(connection, organization_id, self._new(registration))

    async def import_many(
        self,
        organization_id: UUID,
        rows: Sequence[object],
        *,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Register many servers, all or none; return how many. `on_progress` is told how many rows were looked at.

        Raises:
            InvalidError: when there are no rows or too many.
            InvalidImportError: naming the wrong rows and why; nothing was stored.
        """
        if not rows or len(rows) > MAX_IMPORT:
            raise InvalidError([FieldError("servers", f"must have 1 to {MAX_IMPORT} rows, not {len(rows)}")])
        accepted, wrong, readable = await self._read_rows(rows, on_progress)
        async with self._database.transaction() as connection:
            taken = await servers.taken_names(connection, organization_id, list(set(readable.values())))
            for position, name in readable.items():
                if name in taken:
                    wrong.setdefault(position, []).append(FieldError("name", "is registered already"))
            if wrong:
                named = [
                    RowErrors(position, _shown_name(rows[position]), _shown_errors(errors))
                    for position, errors in sorted(wrong.items())
                ]
                raise InvalidImportError(named, len(rows))
            await servers.insert_many(connection, organization_id, accepted)
        return len(accepted)

    async def _read_rows(
        self, rows: Sequence[object], on_progress: Callable[[int], None]
    ) -> tuple[list[NewServer], dict[int, list[FieldError]], dict[int, str]]:
        """Return the new servers (as long as no row is wrong), the wrong rows, and the names of the readable ones."""
        accepted: list[NewServer] = []
        wrong: dict[int, list[FieldError]] = {}
        readable: dict[int, str] = {}
        first_row: dict[str, int] = {}
        for position, raw in enumerate(rows):
            if position % _ROWS_AT_ONCE == 0:
                on_progress(position)
                await asyncio.sleep(0)  # a long import must not hold up the polling on the same loop
            try:
                registration = registration_of(raw)
            except InvalidError as error:
                wrong[position] = list(error.errors[: _SHOWN_ERRORS + 1])
                continue
            readable[position] = registration.name
            errors = self._objections(registration.api_url, registration.ca_certificate)
            earlier = first_row.setdefault(registration.name, position)
            if earlier != position:
                errors.append(FieldError("name", f"is the same as in row {earlier}"))
            if errors:
                wrong[position] = errors
            elif not wrong:
                accepted.append(self._new(registration))
        on_progress(len(rows))
        return accepted, wrong, readable

    async def get(self, organization_id: UUID, server_id: UUID) -> Server:
        """Return one server.

        Raises:
            NotFoundError: when the organization has no such server.
        """
        async with self._database.connection() as connection:
            server = await servers.get(connection, organization_id, server_id)
        if server is None:
            raise NotFoundError(f"there is no server {server_id}")
        return server

    async def find(self, organization_id: UUID, name_or_id: str) -> Server:
        """Return the server that a person names by its name or id.

        Raises:
            NotFoundError: when the organization has no such server.
        """
        async with self._database.connection() as connection:
            server = await servers.find(connection, organization_id, name_or_id)
            if server is None:
                try:
                    server = await servers.get(connection, organization_id, UUID(name_or_id))
                except ValueError:
                    server = None
        if server is None:
            raise NotFoundError(f"there is no server named {name_or_id!r}")
        return server

    async def list_page(
        self, organization_id: UUID, wanted: ServerFilter, page: Page, *, with_total: bool = False
    ) -> Listing:
        """Return one page of the organization's servers."""
        one_more = Page(page.sort, page.descending, page.limit + 1, page.after)
        async with self._database.connection() as connection:
            found = await servers.select(connection, organization_id, wanted, one_more)
            total = await servers.count(connection, organization_id, wanted) if with_total else None
        return Listing(found[: page.limit], len(found) > page.limit, total)

    async def change(self, organization_id: UUID, server_id: UUID, raw: object) -> Server:
        """Change the fields of a server that an untrusted object names.

        Raises:
            InvalidError: naming every wrong field, such as the kind of an agent without a token.
            NotFoundError: when the organization has no such server.
            NameTakenError: when the new name is taken.
        """
        changes: dict[str, Any] = change_of(raw)
        errors = self._objections(changes.get("api_url"), changes.get("ca_certificate"))
        if errors:
            raise InvalidError(errors)
        if "tags" in changes:
            changes["tags"] = list(changes["tags"])
        return await self._update(organization_id, server_id, changes)

    async def replace_token(self, organization_id: UUID, server_id: UUID, raw: object) -> Server:
        """Store another token for a server.

        Raises:
            InvalidError: when the token is missing or wrong.
            NotFoundError: when the organization has no such server.
        """
        token = token_of(raw)
        sealed = self._vault.encrypt(token, context=server_id.bytes)
        return await self._update(
            organization_id, server_id, {"api_token_hash": token_hash(token), "api_token_ciphertext": sealed}
        )

    async def remove(self, organization_id: UUID, server_id: UUID) -> None:
        """Remove a server at once; its history goes in the background.

        Raises:
            NotFoundError: when the organization has no such server.
        """
        async with self._database.transaction() as connection:
            removed = await servers.delete(connection, organization_id, server_id)
        if not removed:
            raise NotFoundError(f"there is no server {server_id}")

    async def summary(self, organization_id: UUID) -> Sequence[tuple[ServerStatus, str | None, int]]:
        """Return the number of servers by status and health."""
        async with self._database.connection() as connection:
            return await servers.summary(connection, organization_id)

    async def undecryptable(self) -> tuple[int, int]:
        """Return how many active servers' tokens our key does not decrypt, and how many were looked at."""
        async with self._database.connection() as connection:
            ids = [server_id for server_id, _ in await targets.revisions(connection)]
            wrong = 0
            for start in range(0, len(ids), _ROWS_AT_ONCE):
                for row in await targets.select(connection, ids[start : start + _ROWS_AT_ONCE]):
                    if row.api_token_ciphertext is None:
                        continue
                    try:
                        self._vault.decrypt(row.api_token_ciphertext, context=row.id.bytes)
                    except VaultError:
                        wrong += 1
        return wrong, len(ids)

    async def _update(self, organization_id: UUID, server_id: UUID, changes: Mapping[str, Any]) -> Server:
        async with self._database.transaction() as connection:
            if "kind" in changes:
                await self._prepare_kind(connection, organization_id, server_id, changes["kind"])
            if "api_url" in changes:
                await self._prepare_url(connection, organization_id, server_id, changes["api_url"])
            server = await servers.update(connection, organization_id, server_id, changes)
        if server is None:
            raise NotFoundError(f"there is no server {server_id}")
        return server

    @staticmethod
    async def _prepare_url(connection: Connection, organization_id: UUID, server_id: UUID, api_url: str) -> None:
        """What the machine at another address counts is not compared with what was counted at this one."""
        server = await servers.get(connection, organization_id, server_id)
        if server is not None and parse_api_url(server.api_url) != parse_api_url(api_url):
            await metrics.forget_counters(connection, organization_id, server_id)

    @staticmethod
    async def _prepare_kind(connection: Connection, organization_id: UUID, server_id: UUID, kind: ServerKind) -> None:
        """Refuse an agent without a token; what another kind of server counts is not compared with what was counted."""
        if kind is ServerKind.AGENT and await servers.lacks_token(connection, organization_id, server_id):
            raise InvalidError([FieldError("kind", "an agent needs a token: store one first, then change the kind")])
        server = await servers.get(connection, organization_id, server_id)
        if server is not None and server.kind is not kind:
            await metrics.forget_counters(connection, organization_id, server_id)

    def _new(self, registration: Registration) -> NewServer:
        server_id, token = new_id(), registration.api_token
        return NewServer(
            id=server_id,
            name=registration.name,
            description=registration.description,
            hostname=registration.hostname,
            api_url=registration.api_url,
            api_token_hash=None if token is None else token_hash(token),
            api_token_ciphertext=None if token is None else self._vault.encrypt(token, context=server_id.bytes),
            kind=registration.kind,
            ca_certificate=registration.ca_certificate,
            region=registration.region,
            environment=registration.environment,
            tags=registration.tags,
            metadata=registration.metadata,
        )

    def _objections(self, api_url: str | None, ca_certificate: str | None) -> list[FieldError]:
        """Return what stands against calling this URL, as far as it can be known before its name is resolved."""
        errors = []
        if api_url is not None:
            url = parse_api_url(api_url)
            objection = self._policy.objection(url.host, url.tls) if is_address(url.host) else None
            if objection is not None:
                errors.append(FieldError("api_url", objection))
        if ca_certificate is not None:
            try:
                x509.load_pem_x509_certificates(ca_certificate.encode())
            except ValueError:
                errors.append(FieldError("ca_certificate", "must be one or more certificates in PEM"))
        return errors


def _shown_name(raw: object) -> str | None:
    name = raw.get("name") if isinstance(raw, Mapping) else None
    return name.strip()[:_SHOWN_NAME] if isinstance(name, str) else None


def _shown_errors(errors: Sequence[FieldError]) -> tuple[FieldError, ...]:
    if len(errors) <= _SHOWN_ERRORS:
        return tuple(errors)
    return (*errors[: _SHOWN_ERRORS - 1], FieldError(errors[_SHOWN_ERRORS - 1].field, "is wrong, and so are others"))
