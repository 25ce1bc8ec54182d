"""Service discovery for Prometheus over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from opsfleet.api.dependencies import Fleet, Viewer
from opsfleet.api.discovery_schemas import TargetGroupList
from opsfleet.api.errors import problems
from opsfleet.api.etags import json_unless_known
from opsfleet.domain.errors import FieldError, InvalidError
from opsfleet.domain.servers import ServerKind, ServerStatus
from opsfleet.store.servers import ServerFilter

router = APIRouter(prefix="/api/v1/fleet", tags=["servers"])


@router.get(
    "/http-sd",
    operation_id="discover_servers",
    summary="List servers for Prometheus' HTTP service discovery",
    description="Role: `fleet:viewer`. All servers in one answer, because the protocol has no pages. Filters that are "
    "given more than once accept any of their values, but `tags` must all be there. What a server lacks has no label. "
    "A `node_exporter` also has `__scheme__` and `__metrics_path__`, unless a `port` is given. With `ETag`.",
    responses={
        200: {"model": TargetGroupList},
        304: {"description": "Nothing has changed since the answer whose `ETag` the request named."},
        **problems(401, 403, 422, 503),
    },
)
async def http_sd(
    request: Request,
    fleet: Fleet,
    caller: Viewer,
    status: Annotated[list[ServerStatus] | None, Query(description="`active` unless given.")] = None,
    region: Annotated[list[str] | None, Query()] = None,
    environment: Annotated[list[str] | None, Query()] = None,
    tags: Annotated[list[str] | None, Query(description="All of them must be there.")] = None,
    kind: Annotated[list[ServerKind] | None, Query()] = None,
    port: Annotated[int | None, Query(ge=1, le=65_535, description="Of another exporter on the same hosts.")] = None,
) -> Response:
    """List servers for service discovery."""
    for name, texts in (("region", region), ("environment", environment), ("tags", tags)):
        if any("\x00" in text for text in texts or ()):
            raise InvalidError([FieldError(name, "must not contain null characters")])
    wanted = ServerFilter(
        status=status or (ServerStatus.ACTIVE,),
        region=region or (),
        environment=environment or (),
        tags=tags or (),
        kind=kind or (),
    )
    found = await fleet.discovery.target_groups(caller.organization_id, wanted, port)
    return json_unless_known(request, [group._asdict() for group in found])
