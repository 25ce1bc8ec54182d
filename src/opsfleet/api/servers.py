"""The registry over HTTP."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from opsfleet.api import schemas
from opsfleet.api.dependencies import Admin, Fleet, Viewer
from opsfleet.api.errors import problems
from opsfleet.api.wire import (
    MAX_IMPORT_BYTES,
    as_dict,
    body_of,
    decode_cursor,
    encode_cursor,
    health_check,
    json_response,
    moment_of,
    read_json,
)
from opsfleet.domain.errors import (
    ChangedMeanwhileError,
    FieldError,
    InvalidError,
    NotActiveError,
    NotFoundError,
)
from opsfleet.domain.health import HealthStatus
from opsfleet.domain.servers import Server, ServerStatus
from opsfleet.services.health import CheckBrokeError
from opsfleet.store.servers import SORTS, Page, ServerFilter

router = APIRouter(prefix="/api/v1/fleet/servers", tags=["servers"])

Sort = StrEnum("Sort", {name: name for key in SORTS for name in (key, f"-{key}")})  # type: ignore[misc]
_BY_NAME = Sort("name")
_NEVER = "-infinity"
"""How a cursor says that a moment is missing: before every other, as in the database."""


@router.post(
    "",
    status_code=201,
    operation_id="register_server",
    summary="Register a server",
    description="Role: `fleet:admin`. Checks the server's health at once and returns the result.",
    responses={201: {"model": schemas.RegisteredServer}, **problems(400, 401, 403, 409, 413, 422, 503)},
    openapi_extra=body_of(schemas.ServerRegistration),
)
async def register(request: Request, fleet: Fleet, caller: Admin) -> Response:
    """Register a server."""
    server = await fleet.servers.register(caller.organization_id, await read_json(request))
    check = None
    try:
        found = await fleet.health.check_now(caller.organization_id, server.id)
        check = health_check(found)
        server = await fleet.servers.get(caller.organization_id, server.id)
    except (CheckBrokeError, ChangedMeanwhileError, NotActiveError, NotFoundError):
        pass  # the server is registered all the same; the worker checks it soon
    return json_response({**as_dict(server), "health_check": check}, 201)


@router.post(
    "/import",
    status_code=201,
    operation_id="import_servers",
    summary="Register many servers, all or nothing",
    description="Role: `fleet:admin`. Up to 100,000 servers and 64 MiB in one request. Every wrong row "
    "is named in `errors`, and then nothing is stored.",
    responses={201: {"model": schemas.ImportResult}, **problems(400, 401, 403, 409, 413, 422, 503)},
    openapi_extra=body_of(schemas.ServerImport),
)
async def import_many(request: Request, fleet: Fleet, caller: Admin) -> Response:
    """Register many servers."""
    raw = await read_json(request, MAX_IMPORT_BYTES)
    rows = raw.get("servers") if isinstance(raw, dict) else None
    if not isinstance(rows, list):
        raise InvalidError([FieldError("servers", "must be a list of servers")])
    return json_response({"imported": await fleet.servers.import_many(caller.organization_id, rows)}, 201)


@router.get(
    "",
    operation_id="list_servers",
    summary="List servers",
    description="Role: `fleet:viewer`. Filters that are given more than once accept any of their values, but `tags` "
    "must all be there. `q` looks in name, hostname and description.",
    responses={200: {"model": schemas.ServerList}, **problems(401, 403, 422, 503)},
)
async def list_servers(
    fleet: Fleet,
    caller: Viewer,
    status: Annotated[list[ServerStatus] | None, Query()] = None,
    health_status: Annotated[list[HealthStatus] | None, Query()] = None,
    region: Annotated[list[str] | None, Query()] = None,
    environment: Annotated[list[str] | None, Query()] = None,
    tags: Annotated[list[str] | None, Query()] = None,
    q: Annotated[str | None, Query(max_length=200)] = None,
    sort: Annotated[Sort, Query(description="A leading minus turns the order round.")] = _BY_NAME,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
    total: Annotated[bool, Query(description="Also count all that match.")] = False,
) -> Response:
    """List servers."""
    for name, texts in (("region", region), ("environment", environment), ("tags", tags), ("q", [q] if q else None)):
        if any("\x00" in text for text in texts or ()):
            raise InvalidError([FieldError(name, "must not contain null characters")])
    wanted = ServerFilter(status or (), health_status or (), region or (), environment or (), tags or (), q)
    key = str(sort.value)
    page = Page(key.lstrip("-"), key.startswith("-"), limit, _after(cursor, key))
    listing = await fleet.servers.list_page(caller.organization_id, wanted, page, with_total=total)
    body: dict[str, Any] = {
        "items": listing.items,
        "next_cursor": _cursor(key, listing.items[-1]) if listing.more else None,
    }
    if listing.total is not None:
        body["total"] = listing.total
    return json_response(body)


@router.get(
    "/{server_id}",
    operation_id="get_server",
    summary="Show a server",
    description="Role: `fleet:viewer`.",
    responses={200: {"model": schemas.ServerResource}, **problems(401, 403, 404, 422, 503)},
)
async def get(server_id: UUID, fleet: Fleet, caller: Viewer) -> Response:
    """Show a server."""
    return json_response(await fleet.servers.get(caller.organization_id, server_id))


@router.patch(
    "/{server_id}",
    operation_id="change_server",
    summary="Change a server",
    description="Role: `fleet:admin`. Takes any subset of the fields. Only `active` servers are polled.",
    responses={200: {"model": schemas.ServerResource}, **problems(400, 401, 403, 404, 409, 413, 422, 503)},
    openapi_extra=body_of(schemas.ServerChange),
)
async def change(server_id: UUID, request: Request, fleet: Fleet, caller: Admin) -> Response:
    """Change a server."""
    return json_response(await fleet.servers.change(caller.organization_id, server_id, await read_json(request)))


@router.delete(
    "/{server_id}",
    status_code=204,
    operation_id="remove_server",
    summary="Remove a server and its history",
    description="Role: `fleet:admin`. The server is gone at once; its history goes in the background.",
    responses=problems(401, 403, 404, 422, 503),
)
async def remove(server_id: UUID, fleet: Fleet, caller: Admin) -> Response:
    """Remove a server."""
    await fleet.servers.remove(caller.organization_id, server_id)
    return Response(status_code=204)


@router.post(
    "/{server_id}/token",
    operation_id="replace_server_token",
    summary="Replace the stored token of a server",
    description="Role: `fleet:admin`. For a token that was changed on the server itself.",
    responses={200: {"model": schemas.ServerResource}, **problems(400, 401, 403, 404, 413, 422, 503)},
    openapi_extra=body_of(schemas.TokenReplacement),
)
async def replace_token(server_id: UUID, request: Request, fleet: Fleet, caller: Admin) -> Response:
    """Replace the stored token."""
    return json_response(await fleet.servers.replace_token(caller.organization_id, server_id, await read_json(request)))


def _cursor(sort: str, last: Server) -> str:
    value = getattr(last, sort.lstrip("-"))
    if value is None:
        text = _NEVER if sort.endswith("_at") else ""
    else:
        text = value.isoformat() if sort.endswith("_at") else str(value)
    return encode_cursor(sort, text, str(last.id))


def _after(cursor: str | None, sort: str) -> tuple[str, UUID] | None:
    if cursor is None:
        return None
    made_for, value, last_id = decode_cursor(cursor, 3)
    try:
        after = (value, UUID(last_id))
    except ValueError:
        after = None
    if after is None or made_for != sort or "\x00" in value:
        raise InvalidError([FieldError("cursor", "must be the next_cursor of the page before, with the same sort")])
    _, kind = SORTS[sort.lstrip("-")]
    if kind == "timestamptz" and value != _NEVER:
        return moment_of("cursor", value).isoformat(), after[1]
    return after
