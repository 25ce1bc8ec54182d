"""Costs of language models and their budgets: what was spent, on what, and what it will come to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from opsfleet.domain.budgets import Budget, BudgetState, budget_of, first_day, month_text
from opsfleet.domain.costs import Cost, CostKey, DayCost, DayRange, KeyCost, day_range, hour_start, share, shares
from opsfleet.domain.errors import NotFoundError
from opsfleet.domain.forecast import MAX_DAYS, Forecast, NoForecastError, forecast, reached_on
from opsfleet.domain.partitions import Month
from opsfleet.store import budgets, costs
from opsfleet.store.database import Database

MAX_KEYS = 100_000
"""So many keys are listed at once at most; the rest is summed up."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a key cost, and its share of the total in percent; None when the total is nothing."""

    of: KeyCost
    percent: float | None


@dataclass(frozen=True, slots=True)
class Rest:
    """What all keys that are not on the page cost together."""

    keys: int
    cost: Cost
    percent: float | None


@dataclass(frozen=True, slots=True)
class CostReport:
    """Costs over a range of days by one key, the largest first, and per day.

    The costs of the items and the rest add up to the total, except by tag, where a server of several tags counts under
    each. `more` says whether there are smaller ones. What is newer than `complete_until` may be missing.
    """

    by: CostKey
    days: DayRange
    complete_until: datetime
    total: Cost
    items: list[Share]
    rest: Rest | None
    more: bool
    daily: list[DayCost]

    @property
    def counts_several_times(self) -> bool:
        """Whether a server may count under more than one key."""
        return self.by is CostKey.TAG


@dataclass(frozen=True, slots=True)
class Threshold:
    """A part of a budget: whether it is spent, and the day on which it was or will be at the mean pace.

    `on` is None when that is not within the month, or cannot be told.
    """

    percent: int
    amount_usd: Decimal
    reached: bool
    on: date | None


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """How a month stands. Without a `forecast`, `no_forecast` is the reason."""

    month: Month
    budget: Budget | None
    spent: Decimal
    percent: float | None
    state: BudgetState
    complete_until: datetime
    forecast: Forecast | None
    no_forecast: str | None
    thresholds: list[Threshold]


class CostService:
    """Tells what language models cost an organization."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(
        self,
        organization_id: UUID,
        by: CostKey,
        *,
        start: str | None = None,
        end: str | None = None,
        after: tuple[Decimal, str] | None = None,
        limit: int = MAX_KEYS,
        now: datetime | None = None,
    ) -> CostReport:
        """Return the costs between two dates (`2026-11-01`; `end` excluded), by default of this month so far.

        Raises:
            InvalidError: when a date is none, or the range is empty or too long.
        """
        moment = now or datetime.now(UTC)
        days = day_range(start, end, moment)
        of_servers = by in {CostKey.SERVER, CostKey.TAG}
        both = DayRange(days.before.start, days.end)
        # One snapshot for all of it: a roll-up in between would make the parts differ from their total.
        async with self._database.snapshot() as connection:
            complete = await costs.complete_until(connection, moment)
            daily = await costs.daily(connection, organization_id, both, of_servers=of_servers)
            page = await costs.page(connection, organization_id, by, days, after=after, limit=limit + 1)
        total = _total(daily, days)
        items = page.items[:limit]
        rest = page.whole - sum((item.cost for item in items), Cost())
        others = page.keys - len(items)
        if by is CostKey.TAG:
            percents = [share(cost, total.usd) for cost in [*(item.cost.usd for item in items), rest.usd]]
        else:
            percents = shares([*(item.cost.usd for item in items), rest.usd])
        return CostReport(
            by=by,
            days=days,
            complete_until=complete,
            total=total,
            items=[Share(item, percent) for item, percent in zip(items, percents, strict=False)],
            rest=Rest(others, rest, percents[-1]) if others else None,
            more=len(page.items) > limit,
            daily=[item for item in daily if item.day >= days.start],
        )

    async def budget(self, organization_id: UUID, month: Month | None, now: datetime | None = None) -> BudgetReport:
        """Return how `month`, by default the current one, stands to its budget, and what it will come to."""
        moment = now or datetime.now(UTC)
        wanted = month or Month.of(moment)
        days = DayRange(first_day(wanted), first_day(wanted.next()))
        # What is spent is known up to the hour; days before the month tell of the pace as well.
        as_of = hour_start(moment)
        first_known = min(days.start, as_of.date() - timedelta(days=MAX_DAYS))
        async with self._database.snapshot() as connection:
            complete = await costs.complete_until(connection, moment)
            as_of = min(as_of, complete)
            budget = await budgets.get(connection, organization_id, wanted)
            known = await costs.daily(connection, organization_id, DayRange(first_known, days.end))
        spent = sum((item.usd for item in known if item.usd is not None and item.day >= days.start), Decimal(0))
        expected, reason = None, None
        try:
            expected = forecast(days, spent, known, as_of)
        except NoForecastError as error:
            reason = str(error)
        return BudgetReport(
            month=wanted,
            budget=budget,
            spent=spent,
            percent=budget.percent(spent) if budget else None,
            state=budget.state(spent) if budget else BudgetState.NONE,
            complete_until=complete,
            forecast=expected,
            no_forecast=reason,
            thresholds=_thresholds(budget, spent, days, known, expected) if budget else [],
        )

    async def set_budget(self, organization_id: UUID, raw: object, now: datetime | None = None) -> BudgetReport:
        """Store the budget that an untrusted object describes, and return how its month stands.

        Raises:
            InvalidError: naming every wrong field.
        """
        moment = now or datetime.now(UTC)
        budget = budget_of(raw, Month.of(moment))
        async with self._database.transaction() as connection:
            await budgets.put(connection, organization_id, budget)
        return await self.budget(organization_id, budget.month, moment)

    async def remove_budget(self, organization_id: UUID, month: Month | None, now: datetime | None = None) -> Month:
        """Remove the budget that `month`, by default the current one, has of its own; return that month.

        Raises:
            NotFoundError: when it has none of its own.
        """
        wanted = month or Month.of(now or datetime.now(UTC))
        async with self._database.transaction() as connection:
            if await budgets.delete(connection, organization_id, wanted):
                return wanted
            holding = await budgets.get(connection, organization_id, wanted)
        hint = f"; the one that holds is that of {month_text(holding.month)}" if holding else ""
        raise NotFoundError(f"{month_text(wanted)} has no budget of its own{hint}")


def _total(daily: Sequence[DayCost], days: DayRange) -> Cost:
    usd = {True: Decimal(0), False: Decimal(0)}
    requests = {True: 0, False: 0}
    for item in daily:
        within = item.day >= days.start
        usd[within] += item.usd or 0
        requests[within] += item.requests or 0
    return Cost(usd[True], requests[True], usd[False], requests[False])


def _thresholds(
    budget: Budget, spent: Decimal, month: DayRange, known: Sequence[DayCost], expected: Forecast | None
) -> list[Threshold]:
    pace = expected.pace if expected else {}
    found = []
    for percent in sorted({budget.warning_percent, budget.critical_percent, 100}):
        amount = budget.threshold(percent)
        reached = spent >= amount
        on = reached_on(amount, month, known, {} if reached else pace)
        found.append(Threshold(percent, amount, reached, on))
    return found
