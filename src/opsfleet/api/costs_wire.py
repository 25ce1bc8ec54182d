"""Costs and budgets as they travel: amounts as texts with six places, dates, months, and CSV."""

from collections.abc import Iterator
from typing import Any

from opsfleet.domain.budgets import month_text
from opsfleet.domain.costs import Cost, CostKey, usd
from opsfleet.domain.forecast import Forecast, Interval
from opsfleet.domain.spreadsheets import csv_chunks
from opsfleet.services.costs import BudgetReport, CostReport

REST_KEY = "(other)"

_CSV_COLUMNS = (
    "cost_usd",
    "requests",
    "share_percent",
    "cost_before_usd",
    "requests_before",
    "change_percent",
)


def cost_report(report: CostReport, next_cursor: str | None = None) -> dict[str, Any]:
    """Return a report of costs as it travels."""
    rest = report.rest
    return {
        "by": report.by.value,
        "start": report.days.start,
        "end": report.days.end,
        "before": {"start": report.days.before.start, "end": report.days.before.end},
        "complete_until": report.complete_until,
        "counts_several_times": report.counts_several_times,
        "total": _cost(report.total),
        "items": [
            {
                "key": item.of.key,
                "name": item.of.name if report.by is CostKey.SERVER else item.of.key,
                "share_percent": item.percent,
                **_cost(item.of.cost),
            }
            for item in report.items
        ],
        "other": {"keys": rest.keys, "share_percent": rest.percent, **_cost(rest.cost)} if rest else None,
        "days": [{"date": item.day, "cost_usd": usd(item.usd), "requests": item.requests} for item in report.daily],
        "next_cursor": next_cursor,
    }


def budget_report(report: BudgetReport) -> dict[str, Any]:
    """Return how a month stands to its budget, as it travels."""
    budget = report.budget
    return {
        "month": month_text(report.month),
        "amount_usd": usd(budget.amount_usd) if budget else None,
        "set_in": month_text(budget.month) if budget else None,
        "warning_percent": budget.warning_percent if budget else None,
        "critical_percent": budget.critical_percent if budget else None,
        "spent_usd": usd(report.spent),
        "percent": report.percent,
        "state": report.state.value,
        "complete_until": report.complete_until,
        "forecast": _forecast(report.forecast) if report.forecast else None,
        "no_forecast_reason": report.no_forecast,
        "thresholds": [
            {"percent": item.percent, "amount_usd": usd(item.amount_usd), "reached": item.reached, "date": item.on}
            for item in report.thresholds
        ],
    }


def cost_csv(report: CostReport) -> Iterator[str]:
    """Return a report of costs as CSV, some hundred rows at a time; keys beyond the listed ones are one last row."""
    by_server = report.by is CostKey.SERVER
    header = ("server_id", "server", *_CSV_COLUMNS) if by_server else (report.by.value, *_CSV_COLUMNS)

    def row(key: tuple[str | None, ...], cost: Cost, percent: float | None) -> tuple[object, ...]:
        values = _cost(cost)
        return (*key, *(percent if name == "share_percent" else _number(values[name]) for name in _CSV_COLUMNS))

    def rows() -> Iterator[tuple[object, ...]]:
        for item in report.items:
            yield row((item.of.key, item.of.name) if by_server else (item.of.key,), item.of.cost, item.percent)
        if report.rest:
            yield row((None, REST_KEY) if by_server else (REST_KEY,), report.rest.cost, report.rest.percent)

    return csv_chunks(header, rows())


def csv_name(report: CostReport) -> str:
    """Return the name of the file that a report of costs is offered as."""
    return f"llm-costs-by-{report.by.value}-{report.days.start}-to-{report.days.end}.csv"


class _Number:
    """A number that was written already: a cell that is no text, so a minus at its start is left alone."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


def _number(value: object) -> object:
    return _Number(value) if isinstance(value, str) else value


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        "cost_usd": usd(cost.usd),
        "requests": cost.requests,
        "cost_before_usd": usd(cost.usd_before),
        "requests_before": cost.requests_before,
        "change_percent": cost.change_percent,
    }


def _forecast(found: Forecast) -> dict[str, Any]:
    return {
        "cost_usd": usd(found.usd),
        "interval_80": _interval(found.interval_80),
        "interval_95": _interval(found.interval_95),
        "days_used": found.days_used,
        "by_weekday": found.by_weekday,
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {"low_usd": usd(interval.low), "high_usd": usd(interval.high)}
