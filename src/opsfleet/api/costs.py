"""Costs of language models over HTTP, and their budgets."""

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from opsfleet.api import costs_schemas as schemas
from opsfleet.api.costs_wire import budget_report, cost_csv, cost_report, csv_name
from opsfleet.api.dependencies import Admin, Fleet, Viewer
from opsfleet.api.errors import problems
from opsfleet.api.wire import body_of, decode_cursor, encode_cursor, json_response, read_json
from opsfleet.domain.budgets import month_of
from opsfleet.domain.costs import CostKey
from opsfleet.domain.errors import FieldError, InvalidError
from opsfleet.domain.partitions import Month
from opsfleet.services.costs import MAX_KEYS, CostReport

router = APIRouter(prefix="/api/v1/fleet/costs", tags=["costs"])


class CostFormat(StrEnum):
    """How costs are answered."""

    JSON = "json"
    CSV = "csv"


Day = Annotated[str | None, Query(max_length=20)]
MonthQuery = Annotated[
    str | None, Query(alias="month", max_length=20, description="Such as `2026-11`; the current one unless given.")
]

_AMOUNT = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?")


@router.get(
    "",
    operation_id="get_costs",
    summary="Show what language models cost",
    description="Role: `fleet:viewer`. Costs by one key over a range of UTC days, the largest first and compared with "
    "the range of equal length before, and the total of each day. Amounts are texts with six places, which are exact. "
    "Items and `other`, which sums up all keys that are not on the page, add up to the total; by tag they need not, "
    "because a server of several tags counts under each. By server and tag only registered servers count, with their "
    "tags of today; by region and environment those that were removed do too. CSV lists all keys, up to 100,000, on "
    "`format=csv` or `Accept: text/csv`; `limit` and `cursor` are for JSON.",
    responses={
        200: {"model": schemas.CostReportResource, "content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems(401, 403, 422, 503),
    },
)
async def show(
    request: Request,
    fleet: Fleet,
    caller: Viewer,
    by: CostKey = CostKey.SERVER,
    start: Annotated[Day, Query(description="First day; that of the month of the last day unless given.")] = None,
    end: Annotated[Day, Query(description="Day after the last one; tomorrow unless given.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
    as_format: Annotated[CostFormat | None, Query(alias="format")] = None,
) -> Response:
    """Show costs."""
    organization_id = caller.organization_id
    if as_format is CostFormat.CSV or (as_format is None and _prefers_csv(request)):
        report = await fleet.costs.report(organization_id, by, start=start, end=end, limit=MAX_KEYS)
        return StreamingResponse(
            cost_csv(report),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{csv_name(report)}"'},
        )
    after = _after(cursor, by)
    report = await fleet.costs.report(organization_id, by, start=start, end=end, after=after, limit=limit)
    return json_response(cost_report(report, _next(report)))


@router.get(
    "/budget",
    operation_id="get_cost_budget",
    summary="Show how a month stands to its budget",
    description="Role: `fleet:viewer`. What was spent, the state (`warning` and `critical` from exactly their "
    "percentages on, `exceeded` beyond the amount, `none` without a budget), the forecast to the end of the month with "
    "its 80 % and 95 % prediction intervals, and when each threshold is reached at the mean pace. Without a forecast, "
    "`no_forecast_reason` says why.",
    responses={200: {"model": schemas.BudgetResource}, **problems(401, 403, 422, 503)},
)
async def show_budget(fleet: Fleet, caller: Viewer, month: MonthQuery = None) -> Response:
    """Show the budget."""
    return json_response(budget_report(await fleet.costs.budget(caller.organization_id, _month(month))))


@router.put(
    "/budget",
    operation_id="set_cost_budget",
    summary="Set the budget from a month on",
    description="Role: `fleet:admin`. It holds from its month on, until a later month has its own.",
    responses={200: {"model": schemas.BudgetResource}, **problems(400, 401, 403, 413, 422, 503)},
    openapi_extra=body_of(schemas.BudgetChange),
)
async def set_budget(request: Request, fleet: Fleet, caller: Admin) -> Response:
    """Set a budget."""
    return json_response(budget_report(await fleet.costs.set_budget(caller.organization_id, await read_json(request))))


@router.delete(
    "/budget",
    status_code=204,
    operation_id="remove_cost_budget",
    summary="Remove the budget of a month",
    description="Role: `fleet:admin`. Then that of the last month before it holds, if there is one. A month that has "
    "no budget of its own answers 404.",
    responses=problems(401, 403, 404, 422, 503),
)
async def remove_budget(fleet: Fleet, caller: Admin, month: MonthQuery = None) -> Response:
    """Remove a budget."""
    await fleet.costs.remove_budget(caller.organization_id, _month(month))
    return Response(status_code=204)


def _month(text: str | None) -> Month | None:
    return month_of(text) if text is not None else None


def _prefers_csv(request: Request) -> bool:
    kinds = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    return next((kind for kind in kinds if kind in {"text/csv", "application/json"}), "") == "text/csv"


def _after(cursor: str | None, by: CostKey) -> tuple[Decimal, str] | None:
    if cursor is None:
        return None
    made_for, amount, key = decode_cursor(cursor, 3)
    if made_for != by.value or not _AMOUNT.fullmatch(amount) or "\x00" in key:
        raise InvalidError([FieldError("cursor", "must be the next_cursor of the page before, with the same `by`")])
    return Decimal(amount), key


def _next(report: CostReport) -> str | None:
    if not report.more:
        return None
    last = report.items[-1].of
    return encode_cursor(report.by.value, f"{last.cost.usd:f}", last.key or "")
