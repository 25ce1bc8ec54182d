"""Health checks over HTTP: now, their history, and changes of health."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from opsfleet.api import schemas
from opsfleet.api.dependencies import Fleet, Operator, Viewer
from opsfleet.api.errors import problems
from opsfleet.api.wire import decode_cursor, encode_cursor, health_check, json_response, moment_of
from opsfleet.domain.errors import FieldError, InvalidError
from opsfleet.domain.uptime import Uptime

router = APIRouter(prefix="/api/v1/fleet/servers/{server_id}", tags=["health"])

DEFAULT_RANGE = timedelta(days=1)

Start = Annotated[str | None, Query(description="RFC 3339; a day before `end` unless given.", max_length=50)]
End = Annotated[str | None, Query(description="RFC 3339, excluded; now unless given.", max_length=50)]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=200)]


@router.post(
    "/health-check",
    operation_id="check_server",
    summary="Check a server's health now",
    description="Role: `fleet:operator`. The result is recorded like any other check.",
    responses={200: {"model": schemas.HealthCheckResource}, **problems(401, 403, 404, 409, 422, 503)},
)
async def check_now(server_id: UUID, fleet: Fleet, caller: Operator) -> Response:
    """Check a server's health now."""
    return json_response(health_check(await fleet.health.check_now(caller.organization_id, server_id)))


@router.get(
    "/health-history",
    operation_id="list_health_checks",
    summary="List a server's health checks, newest first",
    description="Role: `fleet:viewer`. Also the uptime over the range: the share of the monitored time in which the "
    "server was healthy or degraded. Time in which nobody checked it is counted apart.",
    responses={200: {"model": schemas.HealthHistory}, **problems(401, 403, 404, 422, 503)},
)
async def history(
    server_id: UUID,
    fleet: Fleet,
    caller: Viewer,
    start: Start = None,
    end: End = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List health checks."""
    since, until = _range(start, end)
    found = await fleet.health.history(
        caller.organization_id, server_id, start=since, end=until, before=_before(cursor), limit=limit + 1
    )
    uptime = await fleet.uptime.of_server(caller.organization_id, server_id, start=since, end=until)
    return json_response(
        {
            "uptime": _uptime(uptime),
            "items": [health_check(check) for check in found[:limit]],
            "next_cursor": encode_cursor(found[limit - 1].timestamp.isoformat()) if len(found) > limit else None,
        }
    )


@router.get(
    "/transitions",
    operation_id="list_transitions",
    summary="List the changes of a server's health, newest first",
    description="Role: `fleet:viewer`.",
    responses={200: {"model": schemas.TransitionList}, **problems(401, 403, 404, 422, 503)},
)
async def transitions(
    server_id: UUID,
    fleet: Fleet,
    caller: Viewer,
    start: Start = None,
    end: End = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List changes of health."""
    since, until = _range(start, end)
    found = await fleet.health.transitions(
        caller.organization_id, server_id, start=since, end=until, before=_before(cursor), limit=limit + 1
    )
    return json_response(
        {
            "items": found[:limit],
            "next_cursor": encode_cursor(found[limit - 1].at.isoformat()) if len(found) > limit else None,
        }
    )


def _range(start: str | None, end: str | None) -> tuple[datetime, datetime]:
    until = moment_of("end", end) if end is not None else datetime.now(UTC) + timedelta(seconds=1)
    try:
        since = moment_of("start", start) if start is not None else until - DEFAULT_RANGE
    except OverflowError:
        since = until
    if since > until:
        raise InvalidError([FieldError("start", "must not be after end")])
    return since, until


def _uptime(found: Uptime) -> dict[str, Any]:
    return {
        "start": found.start,
        "end": found.end,
        "uptime_percent": None if found.percent is None else round(found.percent, 4),
        "seconds": {name: spent.total_seconds() for name, spent in found.spent.items()},
    }


def _before(cursor: str | None) -> datetime | None:
    return moment_of("cursor", decode_cursor(cursor, 1)[0]) if cursor is not None else None
