"""Budgets: set once, holding on, warning in time, with a forecast that says how sure it is."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from tests.integration.costs.conftest import Spending
from tests.support.product import Product

from opsfleet.domain.errors import NotFoundError
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.partitions import Month

BUDGET = "/api/v1/fleet/costs/budget"


async def test_a_budget_holds_until_a_later_month_has_its_own(product: Product) -> None:
    async def amount(month: str) -> tuple[str | None, str | None]:
        body = await product.get(f"{BUDGET}?month={month}")
        return body["amount_usd"], body["set_in"]

    for raw in (
        {"amount_usd": 100, "month": "2026-11"},
        {"amount_usd": "250.50", "month": "2027-02"},
        {"amount_usd": 120.10, "month": "2026-11"},
    ):
        status, body = await product.call("PUT", BUDGET, raw)
        assert (status, body["month"], body["warning_percent"]) == (200, raw["month"], 80)
    assert await amount("2026-10") == (None, None)
    assert await amount("2026-11") == ("120.100000", "2026-11")
    assert await amount("2027-01") == ("120.100000", "2026-11")
    assert await amount("2028-06") == ("250.500000", "2027-02")
    status, problem = await product.call("DELETE", f"{BUDGET}?month=2027-01")
    assert (status, problem["code"]) == (404, "not_found")
    assert "2026-11" in problem["detail"]
    assert (await product.call("DELETE", f"{BUDGET}?month=2027-02"))[0] == 204
    assert await amount("2028-06") == ("120.100000", "2026-11")
    assert (await product.call("DELETE", f"{BUDGET}?month=2026-11"))[0] == 204
    body = await product.get(f"{BUDGET}?month=2026-11")
    assert (body["state"], body["thresholds"], body["percent"]) == ("none", [], None)


async def test_the_budget_is_that_of_this_month_unless_another_is_named(product: Product) -> None:
    this = f"{datetime.now(UTC):%Y-%m}"
    status, body = await product.call("PUT", BUDGET, {"amount_usd": 0})
    assert (status, body["month"], body["state"], body["percent"]) == (200, this, "ok", None)
    assert (await product.get(BUDGET))["set_in"] == this
    assert (await product.call("DELETE", BUDGET))[0] == 204


async def test_a_wrong_budget_names_its_field(product: Product) -> None:
    cases = [
        ({}, "amount_usd"),
        ({"amount_usd": -1}, "amount_usd"),
        ({"amount_usd": "1.005"}, "amount_usd"),
        ({"amount_usd": "NaN"}, "amount_usd"),
        ({"amount_usd": "1e400"}, "amount_usd"),
        ({"amount_usd": "1e-9999"}, "amount_usd"),
        ({"amount_usd": True}, "amount_usd"),
        ({"amount_usd": []}, "amount_usd"),
        ({"amount_usd": 1_000_000_000_000}, "amount_usd"),
        ({"amount_usd": 1, "month": "2026-13"}, "month"),
        ({"amount_usd": 1, "month": 202611}, "month"),
        ({"amount_usd": 1, "warning_percent": 0}, "warning_percent"),
        ({"amount_usd": 1, "warning_percent": 96}, "warning_percent"),
        ({"amount_usd": 1, "critical_percent": 1001}, "critical_percent"),
        ({"amount_usd": 1, "critical_percent": 95.5}, "critical_percent"),
        ({"amount_usd": 1, "colour": "red"}, "colour"),
        ([], ""),
    ]
    for raw, field in cases:
        status, problem = await product.call("PUT", BUDGET, raw)
        assert (status, problem["errors"][0]["field"]) == (422, field), raw
    assert (await product.call("PUT", BUDGET, raw=b"{"))[0] == 400
    for month in ("2026", "2026-00", "november", "٢٠٢٦-11"):
        status, problem = await product.call("GET", f"{BUDGET}?month={month}")
        assert (status, problem["errors"][0]["field"]) == (422, "month")


@pytest.mark.parametrize(
    ("spent", "state"),
    [
        ("0", "ok"),
        ("159.999999", "ok"),
        ("160", "warning"),
        ("189.999999", "warning"),
        ("190", "critical"),
        ("200", "critical"),
        ("200.000001", "exceeded"),
    ],
)
async def test_a_threshold_is_reached_at_exactly_its_percentage(spending: Spending, spent: str, state: str) -> None:
    await spending.spend(await spending.server("web"), date(2026, 3, 31), spent)
    await spending.costs.set_budget(DEFAULT_ORGANIZATION, {"amount_usd": 200, "month": "2026-03"})
    report = await spending.costs.budget(DEFAULT_ORGANIZATION, Month(2026, 3))
    assert report.state == state


async def test_a_forecast_says_what_the_month_comes_to_and_when_thresholds_are_reached(spending: Spending) -> None:
    now = datetime(2026, 3, 20, 12, 40, tzinfo=UTC)
    await spending.spend(await spending.server("web"), date(2026, 2, 1), *["10"] * 47, "5")  # half of 20 March
    await spending.costs.set_budget(DEFAULT_ORGANIZATION, {"amount_usd": 250, "month": "2026-02"})
    report = await spending.costs.budget(DEFAULT_ORGANIZATION, None, now)
    assert (report.month, report.spent, report.state) == (Month(2026, 3), 195, "ok")
    assert report.forecast is not None
    assert (report.forecast.usd, report.forecast.days_used, report.forecast.by_weekday) == (310, 28, True)
    assert [(item.percent, item.reached, item.on) for item in report.thresholds] == [
        (80, False, date(2026, 3, 20)),
        (95, False, date(2026, 3, 24)),
        (100, False, date(2026, 3, 25)),
    ]
    over = await spending.costs.budget(DEFAULT_ORGANIZATION, Month(2026, 2), now)
    assert (over.spent, over.forecast, over.no_forecast) == (280, None, "the month is over")
    assert [(item.reached, item.on) for item in over.thresholds] == [
        (True, date(2026, 2, 20)),
        (True, date(2026, 2, 24)),
        (True, date(2026, 2, 25)),
    ]
    coming = await spending.costs.budget(DEFAULT_ORGANIZATION, Month(2026, 4), now)
    assert (coming.spent, coming.forecast.usd if coming.forecast else None) == (0, 300)


async def test_a_young_fleet_has_no_forecast_and_the_reason_is_told(product: Product) -> None:
    spending = Spending(product.fleet.database)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    await spending.spend(await spending.server("web"), yesterday, "1")
    body = await product.get(BUDGET)
    assert body["forecast"] is None
    assert body["no_forecast_reason"] == "1 complete days of the last 28 are known; 3 are needed"


async def test_a_removed_server_was_paid_for_all_the_same(spending: Spending) -> None:
    server = await spending.server("web")
    await spending.spend(server, date(2026, 3, 1), "7")
    await spending.execute("DELETE FROM managed_servers WHERE id = $1", server)
    assert (await spending.costs.budget(DEFAULT_ORGANIZATION, Month(2026, 3))).spent == Decimal(7)


async def test_another_organization_cannot_remove_a_budget(spending: Spending) -> None:
    other = await spending.organization("other")
    await spending.costs.set_budget(DEFAULT_ORGANIZATION, {"amount_usd": 1, "month": "2026-03"})
    with pytest.raises(NotFoundError):
        await spending.costs.remove_budget(other, Month(2026, 3))
    assert (await spending.costs.budget(DEFAULT_ORGANIZATION, Month(2026, 3))).budget is not None
