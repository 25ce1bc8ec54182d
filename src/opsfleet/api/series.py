"""Series of metrics over HTTP, and collecting now."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from opsfleet.api import series_schemas
from opsfleet.api.dependencies import Fleet, Operator, Viewer
from opsfleet.api.errors import problems
from opsfleet.api.wire import json_response, moment_of
from opsfleet.domain.errors import FieldError, InvalidError
from opsfleet.domain.metrics import MetricsCollection, Period
from opsfleet.domain.series import COLUMNS, FLEET_COLUMNS, GroupBy, Span, columns_of
from opsfleet.services.series import FleetSeries, ServerSeries
from opsfleet.store.fleet_series import FleetFilter

router = APIRouter(prefix="/api/v1/fleet", tags=["metrics"])


class SeriesFormat(StrEnum):
    """How series travel."""

    COLUMNS = "columns"
    ROWS = "rows"


Start = Annotated[str | None, Query(description="RFC 3339; a day before `end` unless given.", max_length=50)]
End = Annotated[str | None, Query(description="RFC 3339, excluded; now unless given.", max_length=50)]
Length = Annotated[
    Period | None, Query(description="Unless given, the finest that gives about 1,000 points and is still kept.")
]
Format = Annotated[
    SeriesFormat,
    Query(
        alias="format",
        description="`columns`: a regular grid, null at gaps. `rows`: an object for each bucket that has values.",
    ),
]
Texts = Annotated[list[str] | None, Query()]


@router.get(
    "/servers/{server_id}/metrics",
    operation_id="get_server_metrics",
    summary="Show a server's metrics over time",
    description="Role: `fleet:viewer`. At most ten years and 20,000 points.",
    responses={200: {"model": series_schemas.ServerSeriesResource}, **problems(401, 403, 404, 422, 503)},
)
async def of_server(
    server_id: UUID,
    fleet: Fleet,
    caller: Viewer,
    start: Start = None,
    end: End = None,
    period: Length = None,
    form: Format = SeriesFormat.COLUMNS,
) -> Response:
    """Show a server's metrics."""
    found = await fleet.series.of_server(
        caller.organization_id, server_id, start=_moment("start", start), end=_moment("end", end), period=period
    )
    return json_response(server_series(found, form))


@router.post(
    "/servers/{server_id}/metrics/collect",
    operation_id="collect_server_metrics",
    summary="Collect a server's metrics now",
    description="Role: `fleet:operator`. The values are stored like those of any other collection.",
    responses={200: {"model": series_schemas.CollectionResource}, **problems(401, 403, 404, 409, 422, 503)},
)
async def collect_now(server_id: UUID, fleet: Fleet, caller: Operator) -> Response:
    """Collect a server's metrics now."""
    return json_response(_collection(await fleet.metrics.collect_now(caller.organization_id, server_id)))


@router.get(
    "/metrics/aggregated",
    operation_id="get_fleet_metrics",
    summary="Show many servers' metrics together over time",
    description="Role: `fleet:viewer`. One series for each region, environment, group or tag, or a single one. "
    "Percentages are averages over the servers; network, LLM requests and cost are sums of what was added; services "
    "and users are sums; `servers` is how many had values. Filters that are given more than once accept any of their "
    "values, but `tags` must all be there. By group and tag, and with such filters, a server counts for what it is "
    "now, and the period is chosen so that at most 300,000 rows are read; `period` says which.",
    responses={200: {"model": series_schemas.FleetSeriesResource}, **problems(401, 403, 404, 422, 503)},
)
async def of_fleet(
    fleet: Fleet,
    caller: Viewer,
    start: Start = None,
    end: End = None,
    period: Length = None,
    group_by: Annotated[GroupBy, Query()] = GroupBy.NONE,
    region: Texts = None,
    environment: Texts = None,
    tags: Texts = None,
    group_id: UUID | None = None,
    form: Format = SeriesFormat.COLUMNS,
) -> Response:
    """Show many servers' metrics together."""
    for name, texts in (("region", region), ("environment", environment), ("tags", tags)):
        if any("\x00" in text for text in texts or ()):
            raise InvalidError([FieldError(name, "must not contain null characters")])
    found = await fleet.series.of_fleet(
        caller.organization_id,
        group_by,
        FleetFilter(region or (), environment or (), tags or (), group_id),
        start=_moment("start", start),
        end=_moment("end", end),
        period=period,
    )
    return json_response(fleet_series(found, form))


def server_series(found: ServerSeries, form: SeriesFormat = SeriesFormat.COLUMNS) -> dict[str, Any]:
    """Return one server's series as they travel."""
    body = {
        "server_id": found.server_id,
        "period": found.period,
        "start": found.span.start,
        "end": found.span.end,
        "last_collection": {"collected_at": found.last.collected_at, "error": found.last.error},
    }
    if form is SeriesFormat.COLUMNS:
        body["timestamps"] = found.span.grid(found.period)
    return {**body, **_values(COLUMNS, found.rows, found.span, found.period, form)}


def fleet_series(found: FleetSeries, form: SeriesFormat = SeriesFormat.COLUMNS) -> dict[str, Any]:
    """Return the series of many servers as they travel."""
    body = {"group_by": found.group_by, "period": found.period, "start": found.span.start, "end": found.span.end}
    if form is SeriesFormat.COLUMNS:
        body["timestamps"] = found.span.grid(found.period)
    series = [
        {"key": one.key, "label": one.label, **_values(FLEET_COLUMNS, one.rows, found.span, found.period, form)}
        for one in found.series
    ]
    return {**body, "series": series}


def _values(
    names: Sequence[str], rows: Sequence[Sequence[Any]], span: Span, period: Period, form: SeriesFormat
) -> dict[str, Any]:
    if form is SeriesFormat.COLUMNS:
        return {"columns": columns_of(names, rows, span, period)}
    keys = ("timestamp", *names)
    return {"rows": [dict(zip(keys, row, strict=True)) for row in rows]}


def _moment(name: str, text: str | None) -> datetime | None:
    return moment_of(name, text) if text is not None else None


def _collection(found: MetricsCollection) -> dict[str, Any]:
    values = None
    if found.reading is not None:
        counters = found.reading.counters
        cost = counters.llm_cost_microusd
        values = {
            **found.reading.gauges._asdict(),
            "network_rx_bytes": counters.network_rx_bytes,
            "network_tx_bytes": counters.network_tx_bytes,
            "llm_requests": counters.llm_requests,
            "llm_cost_usd": None if cost is None else cost / 1e6,
        }
    return {
        "server_id": found.server_id,
        "collected_at": found.at,
        "minute": found.minute,
        "values": values,
        "error": found.error,
    }
