"""Budgets for language models: an amount for each UTC month, and how it stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from opsfleet.domain.errors import FieldError, InvalidError
from opsfleet.domain.partitions import Month

WARNING_PERCENT = 80
CRITICAL_PERCENT = 95
MAX_PERCENT = 1_000
MAX_AMOUNT = Decimal(999_999_999_999)

_FIELDS = ("amount_usd", "month", "warning_percent", "critical_percent")


class BudgetState(StrEnum):
    """How what was spent stands to the budget. `exceeded` is more than all of it."""

    NONE = "none"
    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    EXCEEDED = "exceeded"


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of US dollars for each month from `month` on, until a later month has a budget of its own."""

    month: Month
    amount_usd: Decimal
    warning_percent: int = WARNING_PERCENT
    critical_percent: int = CRITICAL_PERCENT

    def state(self, spent: Decimal) -> BudgetState:
        """Return how `spent` dollars stand; a threshold is reached at exactly its percentage."""
        if spent > self.amount_usd:
            return BudgetState.EXCEEDED
        if not self.amount_usd or spent < self.threshold(self.warning_percent):
            return BudgetState.OK
        return BudgetState.CRITICAL if spent >= self.threshold(self.critical_percent) else BudgetState.WARNING

    def threshold(self, percent: int) -> Decimal:
        """Return so many percent of the amount, in dollars."""
        return self.amount_usd * percent / 100

    def percent(self, spent: Decimal) -> float | None:
        """Return how many percent of the amount `spent` dollars are; None for an amount of zero."""
        return float(round(spent / self.amount_usd * 100, 2)) if self.amount_usd else None


def month_of(text: str, field: str = "month") -> Month:
    """Return the month that a text such as `2026-11` names.

    Raises:
        InvalidError: when it names none.
    """
    year, _, number = text.partition("-")
    if len(text) == 7 and len(year) == 4 and text.isascii() and year.isdigit() and number.isdigit():
        month = Month(int(year), int(number))
        if 2000 <= month.year <= 9000 and 1 <= month.number <= 12:
            return month
    raise InvalidError([FieldError(field, "must be a month such as 2026-11")])


def month_text(month: Month) -> str:
    """Return a month as `month_of` reads it."""
    return f"{month.year:04d}-{month.number:02d}"


def first_day(month: Month) -> date:
    """Return the first day of a month."""
    return month.start.date()


def budget_of(raw: object, current: Month) -> Budget:
    """Return the budget that an untrusted object describes; its month is `current` unless it names one.

    Raises:
        InvalidError: naming every wrong, missing or unknown field.
    """
    if not isinstance(raw, Mapping):
        raise InvalidError([FieldError("", "must be an object")])
    errors = [
        FieldError(str(name)[:100], f"is not a field of a budget; known are {', '.join(_FIELDS)}")
        for name in raw
        if name not in _FIELDS
    ]
    amount = _amount(raw.get("amount_usd"), errors)
    month = _month(raw.get("month"), current, errors)
    warning = _percent("warning_percent", raw.get("warning_percent", WARNING_PERCENT), errors)
    critical = _percent("critical_percent", raw.get("critical_percent", CRITICAL_PERCENT), errors)
    if not errors and warning > critical:
        errors.append(FieldError("warning_percent", f"must not be over critical_percent, {critical}"))
    if errors:
        raise InvalidError(errors)
    return Budget(month, amount, warning, critical)


def _amount(value: Any, errors: list[FieldError]) -> Decimal:
    try:
        # A float goes through its shortest text, which is what the sender wrote.
        amount = Decimal(str(value)) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except InvalidOperation:
        amount = None
    if value is None:
        errors.append(FieldError("amount_usd", "is required"))
    elif amount is None or not amount.is_finite() or not 0 <= amount <= MAX_AMOUNT or amount != round(amount, 2):
        errors.append(
            FieldError("amount_usd", f"must be 0 to {MAX_AMOUNT} dollars with at most two places, such as 500 or 99.50")
        )
    else:
        return round(amount, 2)
    return Decimal(0)


def _month(value: Any, current: Month, errors: list[FieldError]) -> Month:
    if value is None:
        return current
    try:
        return month_of(value if isinstance(value, str) else "")
    except InvalidError as error:
        errors += error.errors
        return current


def _percent(name: str, value: Any, errors: list[FieldError]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_PERCENT:
        return value
    errors.append(FieldError(name, f"must be a whole number from 1 to {MAX_PERCENT}"))
    return 0
