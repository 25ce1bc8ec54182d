"""What machines ask of the control plane itself: does it live, is it ready, its own metrics."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from opsfleet.api import schemas
from opsfleet.api.dependencies import Fleet, caller
from opsfleet.api.errors import problems
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
    summary="The control plane's own metrics",
    description="Prometheus text. Role: `fleet:admin`, unless the control plane listens on a loopback address only.",
    responses={
        200: {
            "description": "Metrics in Prometheus' text format.",
            "content": {"text/plain": {"example": "opsfleet_health_checks_total 1250.0\n"}},
        },
        **problems(401, 403),
    },
)
async def metrics(request: Request) -> Response:
    """Show the control plane's own metrics."""
    if not request.app.state.metrics_open:
        caller(request, None).require(Role.ADMIN)
    return Response(generate_latest(request.app.state.own_metrics), media_type=CONTENT_TYPE_LATEST)
