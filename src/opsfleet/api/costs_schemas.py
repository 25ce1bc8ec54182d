"""What costs and budgets look like over the API, for the OpenAPI document. Amounts are texts with six places."""

import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

USD = Field(pattern=r"^\d+\.\d{6}$", description="US dollars as a text with six places, exact.")


class CostFigures(BaseModel):
    """What was spent in the range and in the range before; the change is null when nothing was spent before."""

    cost_usd: str = USD
    requests: int
    cost_before_usd: str = USD
    requests_before: int
    change_percent: float | None


class KeyCostResource(CostFigures):
    """What one key cost. The key is a server's id, or a name; null for servers without any."""

    key: str | None
    name: str | None
    share_percent: float | None


class OtherCosts(CostFigures):
    """What all keys that are not on this page cost together."""

    keys: int
    share_percent: float | None


class CostDay(BaseModel):
    """What one UTC day cost; null where nothing was collected."""

    date: datetime.date
    cost_usd: str | None
    requests: int | None


class CostRange(BaseModel):
    """UTC days, the end excluded."""

    start: datetime.date
    end: datetime.date


class CostReportResource(BaseModel):
    """Costs over a range of days by one key, the largest first, and per day."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "by": "region",
                "start": "2026-11-01",
                "end": "2026-11-03",
                "before": {"start": "2026-10-30", "end": "2026-11-01"},
                "complete_until": "2026-11-02T14:00:00Z",
                "counts_several_times": False,
                "total": {
                    "cost_usd": "12.340021",
                    "requests": 4100,
                    "cost_before_usd": "10.000000",
                    "requests_before": 3900,
                    "change_percent": 23.4,
                },
                "items": [
                    {
                        "key": "us-east",
                        "name": "us-east",
                        "share_percent": 100.0,
                        "cost_usd": "12.340021",
                        "requests": 4100,
                        "cost_before_usd": "10.000000",
                        "requests_before": 3900,
                        "change_percent": 23.4,
                    }
                ],
                "other": None,
                "days": [
                    {"date": "2026-11-01", "cost_usd": "12.340021", "requests": 4100},
                    {"date": "2026-11-02", "cost_usd": None, "requests": None},
                ],
                "next_cursor": None,
            }
        }
    )

    by: Literal["server", "region", "environment", "tag"]
    start: datetime.date
    end: datetime.date
    before: CostRange
    complete_until: datetime.datetime = Field(description="What was collected later may be missing.")
    counts_several_times: bool = Field(description="A server of several tags counts under each.")
    total: CostFigures
    items: list[KeyCostResource]
    other: OtherCosts | None
    days: list[CostDay]
    next_cursor: str | None


class BudgetChange(BaseModel):
    """A budget that holds from its month on, until a later month has its own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"amount_usd": "500.00", "month": "2026-11", "warning_percent": 80, "critical_percent": 95}
        },
    )

    amount_usd: str | float = Field(description="US dollars, at most two places; a text or a number.")
    month: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}$", description="The current one unless given.")
    warning_percent: int = Field(default=80, ge=1, le=1000)
    critical_percent: int = Field(default=95, ge=1, le=1000)


class ForecastInterval(BaseModel):
    """Where the cost will lie with the stated probability."""

    low_usd: str = USD
    high_usd: str = USD


class ForecastResource(BaseModel):
    """What the month will have cost at its end, from the daily costs of the last complete days, 28 at most."""

    cost_usd: str = USD
    interval_80: ForecastInterval
    interval_95: ForecastInterval
    days_used: int
    by_weekday: bool


class ThresholdResource(BaseModel):
    """A part of the budget; `date` is the day on which it was or will be reached, null when not in this month."""

    percent: int
    amount_usd: str = USD
    reached: bool
    date: datetime.date | None


class BudgetResource(BaseModel):
    """How a month stands to its budget; `set_in` is the month that the budget was set for."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "month": "2026-11",
                "amount_usd": "500.000000",
                "set_in": "2026-09",
                "warning_percent": 80,
                "critical_percent": 95,
                "spent_usd": "410.250000",
                "percent": 82.05,
                "state": "warning",
                "complete_until": "2026-11-25T02:00:00Z",
                "forecast": {
                    "cost_usd": "508.100000",
                    "interval_80": {"low_usd": "497.300000", "high_usd": "518.900000"},
                    "interval_95": {"low_usd": "491.200000", "high_usd": "525.000000"},
                    "days_used": 28,
                    "by_weekday": True,
                },
                "no_forecast_reason": None,
                "thresholds": [
                    {"percent": 80, "amount_usd": "400.000000", "reached": True, "date": "2026-11-24"},
                    {"percent": 95, "amount_usd": "475.000000", "reached": False, "date": "2026-11-28"},
                    {"percent": 100, "amount_usd": "500.000000", "reached": False, "date": "2026-11-30"},
                ],
            }
        }
    )

    month: str
    amount_usd: str | None
    set_in: str | None
    warning_percent: int | None
    critical_percent: int | None
    spent_usd: str = USD
    percent: float | None
    state: Literal["none", "ok", "warning", "critical", "exceeded"]
    complete_until: datetime.datetime
    forecast: ForecastResource | None
    no_forecast_reason: str | None
    thresholds: list[ThresholdResource]
