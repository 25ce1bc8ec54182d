"""The workers' status over HTTP."""

from typing import Any

from fastapi import APIRouter, Response

from opsfleet.api import schemas
from opsfleet.api.dependencies import Admin, Fleet
from opsfleet.api.errors import problems
from opsfleet.api.wire import json_response

router = APIRouter(prefix="/api/v1/fleet/workers", tags=["workers"])

_NEVER_RAN: dict[str, dict[str, Any]] = {
    "health_worker": {
        "running": False,
        "interval_seconds": 0,
        "checks_performed": 0,
        "checks_successful": 0,
        "checks_failed": 0,
        "success_rate": 0,
        "last_run": None,
        "last_duration_seconds": None,
    },
    "metrics_worker": {
        "running": False,
        "interval_seconds": 0,
        "collections_performed": 0,
        "collections_successful": 0,
        "collections_failed": 0,
        "success_rate": 0,
        "total_metrics_collected": 0,
        "last_run": None,
        "last_duration_seconds": None,
    },
}


@router.get(
    "/status",
    operation_id="get_workers_status",
    summary="Show the state of the workers",
    description=(
        "Role: `fleet:admin`. Statistics since each worker's start, as last published by the instance that is "
        "`active`; the others are on `standby` to take over, or `none` without workers. An instance that ended in good "
        "order is not listed; of one that did not, `heartbeat_at` stays where it was."
    ),
    responses={200: {"model": schemas.WorkersStatusResource}, **problems(401, 403, 503)},
)
async def status(fleet: Fleet, _: Admin) -> Response:
    """Show the state of the workers."""
    found = await fleet.workers.status()
    instances = [
        {
            "id": instance.id,
            "role": instance.role,
            "host": instance.host,
            "pid": instance.pid,
            "state": instance.state,
            "started_at": instance.started_at,
            "heartbeat_at": instance.heartbeat_at,
        }
        for instance in found.instances
    ]
    kinds = {kind: found.kinds.get(kind, never) for kind, never in _NEVER_RAN.items()}
    return json_response({**kinds, "instances": instances, "timestamp": found.timestamp})
