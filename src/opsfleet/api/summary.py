"""The fleet at a glance over HTTP."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from opsfleet.api import summary_schemas
from opsfleet.api.dependencies import Fleet, Viewer
from opsfleet.api.errors import problems
from opsfleet.api.etags import json_unless_known
from opsfleet.services.summary import FleetSummary

router = APIRouter(prefix="/api/v1/fleet", tags=["metrics"])


@router.get(
    "/summary",
    operation_id="get_summary",
    summary="Show the fleet at a glance",
    description="Role: `fleet:viewer`. Answers 304 when `If-None-Match` has the `ETag` of an answer that still holds.",
    responses={
        200: {"model": summary_schemas.SummaryResource},
        304: {"description": "Nothing changed"},
        **problems(401, 403, 503),
    },
)
async def show(request: Request, fleet: Fleet, caller: Viewer) -> Response:
    """Show the fleet at a glance."""
    return json_unless_known(request, fleet_summary(await fleet.summary.of_organization(caller.organization_id)))


def fleet_summary(found: FleetSummary) -> dict[str, Any]:
    """Return a summary as it travels."""
    minute = found.minute
    return {
        "servers": {
            "total": sum(found.by_status.values()),
            "by_status": found.by_status,
            "by_health": found.by_health,
        },
        "regions": _places(found.regions),
        "environments": _places(found.environments),
        "metrics": None
        if minute is None
        else {
            "timestamp": minute.timestamp,
            "servers": minute.servers,
            "cpu_percent": minute.cpu_percent,
            "memory_percent": minute.memory_percent,
            "disk_percent": minute.disk_percent,
        },
        "users": {
            "active": minute.active_users if minute else None,
            "total": minute.total_users if minute else None,
        },
        "llm_today": {
            "date": found.day,
            "requests": found.llm_requests,
            "cost_usd": float(found.llm_cost_usd),
        },
    }


def _places(found: Mapping[str | None, int]) -> list[dict[str, Any]]:
    ordered = sorted(found.items(), key=lambda place: (place[0] is None, place[0] or ""))
    return [{"name": name, "servers": servers} for name, servers in ordered]
