"""What machines ask of the control plane itself: does it live, is it ready, its own metrics."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from opsfleet.api import schemas
from opsfleet.api.dependencies import Fleet, caller
from opsfleet.api.errors import problems
from opsfleet.api.fleet_gauges import exposition_of
from opsfleet.api.wire import json_response
from opsfleet.domain.access import Role

router = APIRouter(tags=["system"])


@router.get(
    "/healthz",
    operation_id="get_liveness",
    summary="Does the process live?",
    description="Needs no role.",
    responses={200: {"model": schemas.Liveness}},
)
async def healthz() -> Response:
    """Say that the process lives."""
    return json_response({"status": "ok"})


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Can the process do its work?",
    description="Needs no role. The database is reachable and migrated, and the workers have published lately.",
    responses={
        200: {"model": schemas.Readiness},
        503: {"model": schemas.Readiness, "description": "Something is missing; `checks` says what."},
    },
)
async def readyz(fleet: Fleet) -> Response:
    """Say whether the process is ready."""
    checks = await fleet.readiness.checks()
    ready = all(word == "ok" for word in checks.values())
    return json_response({"status": "ok" if ready else "not_ready", "checks": checks}, 200 if ready else 503)


@router.get(
    "/metrics",
    operation_id="get_own_metrics",
    summary="The control plane's own metrics and, on request, its servers'",
    description="Prometheus text. The control plane's own metrics need the role `fleet:admin`, unless it listens on a "
    "loopback address only. With `servers`, which always needs a token and the role `fleet:viewer`, there are gauges "
    "of the caller's organization and of its active servers, in the order of their names.",
    responses={
        200: {
            "description": "Metrics in Prometheus' text format.",
            "content": {"text/plain": {"example": "opsfleet_health_checks_total 1250.0\n"}},
        },
        **problems(401, 403, 422, 503),
    },
)
async def metrics(
    request: Request,
    fleet: Fleet,
    servers: Annotated[bool, Query(description="Also gauges of the organization and its servers.")] = False,
    limit: Annotated[int, Query(ge=1, le=10_000, description="At most so many servers.")] = 1_000,
) -> Response:
    """Show metrics."""
    is_open = request.app.state.metrics_open
    text = b""
    if servers:
        # On loopback as well, for it is the token that says which organization's they are.
        viewer = caller(request, None)
        viewer.require(Role.VIEWER)
        is_open = is_open or viewer.may(Role.ADMIN)
        text = await exposition_of(await fleet.gauges.read(viewer.organization_id, limit))
    elif not is_open:
        caller(request, None).require(Role.ADMIN)
        is_open = True
    if is_open:
        text = generate_latest(request.app.state.own_metrics) + text
    return Response(text, media_type=CONTENT_TYPE_LATEST)
