"""What language models cost: on what, when, and compared with before."""

import asyncio
import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.costs.conftest import Spending
from tests.support.product import TOKEN, Product

from opsfleet.domain.costs import CostKey, DayRange, day_start
from opsfleet.domain.errors import InvalidError
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.partitions import Month
from opsfleet.store import costs, partitions
from opsfleet.store.database import Database
from opsfleet.store.metrics import FLEET_METRICS, SERVER_METRICS

COSTS = "/api/v1/fleet/costs"


async def test_two_organizations_never_see_each_others_costs(spending: Spending) -> None:
    other = await spending.organization("other")
    ours = await spending.server("web-1", region="eu", environment="prod", tags=["web"])
    theirs = await spending.server("web-1", organization_id=other, region="eu", environment="prod", tags=["web"])
    await spending.spend(ours, date(2026, 3, 1), "1.25")
    await spending.spend(theirs, date(2026, 3, 1), "100")
    for by in CostKey:
        for organization_id, amount in ((DEFAULT_ORGANIZATION, "1.25"), (other, "100")):
            report = await spending.costs.report(organization_id, by, start="2026-03-01", end="2026-03-02")
            assert [item.of.cost.usd for item in report.items] == [Decimal(amount)]
            assert (report.total.usd, report.daily[0].usd) == (Decimal(amount), Decimal(amount))
    await spending.costs.set_budget(other, {"amount_usd": 50, "month": "2026-03"})
    march = Month(2026, 3)
    assert (await spending.costs.budget(other, march)).state == "exceeded"
    mine = await spending.costs.budget(DEFAULT_ORGANIZATION, march)
    assert (mine.state, mine.spent, mine.budget) == ("none", Decimal("1.25"), None)


async def test_costs_are_exact_compared_with_the_range_before_and_days_without_data_are_gaps(
    spending: Spending,
) -> None:
    web = await spending.server("web", region="eu")
    db = await spending.server("db", region="us")
    new = await spending.server("new")
    await spending.spend(web, date(2026, 3, 1), "0.1", "0.2", "0.300001", None, "0.5")
    await spending.spend(db, date(2026, 3, 1), "2", None, "1", None, "0", requests=3)
    await spending.spend(new, date(2026, 3, 5), "0.000001", requests=0)
    report = await spending.costs.report(DEFAULT_ORGANIZATION, CostKey.SERVER, start="2026-03-03", end="2026-03-06")
    found = {item.of.name: item for item in report.items}
    assert list(found) == ["db", "web", "new"]
    assert report.days.before == DayRange(date(2026, 2, 28), date(2026, 3, 3))
    assert (found["web"].of.cost.usd, found["web"].of.cost.usd_before) == (Decimal("0.800001"), Decimal("0.3"))
    assert [item.of.cost.change_percent for item in report.items] == [-50.0, 166.67, None]
    assert [item.percent for item in report.items] == [55.56, 44.44, 0.0]
    assert (report.total.usd, report.total.requests) == (Decimal("1.800002"), 26)
    assert (report.total.usd_before, report.total.requests_before) == (Decimal("2.3"), 23)
    assert [(day.usd, day.requests) for day in report.daily] == [
        (Decimal("1.300001"), 13),
        (None, None),
        (Decimal("0.500001"), 13),
    ]
    by_region = await spending.by("region", "2026-03-03", "2026-03-06")
    assert {key: item.of.cost.usd for key, item in by_region.items()} == {
        "us": Decimal(1),
        "eu": Decimal("0.800001"),
        None: Decimal("0.000001"),
    }


async def test_a_leap_february_and_the_turn_of_the_year_have_all_their_days(spending: Spending) -> None:
    server = await spending.server("web")
    await spending.spend(server, date(2027, 12, 1), *["1"] * 120)
    leap = await spending.costs.report(DEFAULT_ORGANIZATION, CostKey.REGION, start="2028-02-01", end="2028-03-01")
    assert (leap.total.usd, leap.total.usd_before, len(leap.daily)) == (29, 29, 29)
    assert leap.days.before.start == date(2028, 1, 3)
    turn = await spending.costs.report(DEFAULT_ORGANIZATION, CostKey.SERVER, start="2027-12-30", end="2028-01-03")
    assert [day.day.isoformat() for day in turn.daily] == ["2027-12-30", "2027-12-31", "2028-01-01", "2028-01-02"]
    assert (turn.total.usd, turn.total.usd_before) == (4, 4)


async def test_a_server_of_several_tags_counts_under_each_and_the_answer_says_so(spending: Spending) -> None:
    both = await spending.server("both", tags=["web", "eu"])
    one = await spending.server("one", tags=["web"])
    none = await spending.server("none")
    for server, amount in ((both, "3"), (one, "1"), (none, "2")):
        await spending.spend(server, date(2026, 3, 1), amount)
    report = await spending.costs.report(DEFAULT_ORGANIZATION, CostKey.TAG, start="2026-03-01", end="2026-03-02")
    assert [(item.of.key, item.of.cost.usd, item.percent) for item in report.items] == [
        ("web", 4, 66.67),
        ("eu", 3, 50.0),
        (None, 2, 33.33),
    ]
    assert (report.total.usd, report.counts_several_times) == (6, True)


async def test_a_removed_server_keeps_its_cost_in_its_region_only(spending: Spending) -> None:
    stays = await spending.server("stays", region="eu", environment="prod")
    goes = await spending.server("goes", region="us", environment="prod")
    await spending.spend(stays, date(2026, 3, 1), "1")
    await spending.spend(goes, date(2026, 3, 1), "2")
    await spending.execute("DELETE FROM managed_servers WHERE id = $1", goes)
    assert list(await spending.by("server", "2026-03-01", "2026-03-02")) == ["stays"]
    assert list(await spending.by("region", "2026-03-01", "2026-03-02")) == ["us", "eu"]
    (prod,) = (await spending.by("environment", "2026-03-01", "2026-03-02")).values()
    assert prod.of.cost.usd == 3


async def test_figures_are_complete_until_the_hour_that_is_over_or_the_first_that_is_due(spending: Spending) -> None:
    now = datetime(2026, 3, 10, 14, 35, tzinfo=UTC)

    async def complete() -> datetime:
        report = await spending.costs.report(DEFAULT_ORGANIZATION, CostKey.REGION, now=now)
        return report.complete_until

    await spending.due("1m", datetime(2026, 3, 10, 10, 1, tzinfo=UTC))
    assert await complete() == datetime(2026, 3, 10, 14, tzinfo=UTC)
    await spending.due("5m", datetime(2026, 3, 10, 14, 30, tzinfo=UTC))
    assert await complete() == datetime(2026, 3, 10, 14, tzinfo=UTC)
    await spending.due("15m", datetime(2026, 3, 10, 9, 45, tzinfo=UTC))
    assert await complete() == datetime(2026, 3, 10, 9, tzinfo=UTC)
    await spending.due("1d", datetime(2026, 3, 8, tzinfo=UTC))
    assert await complete() == datetime(2026, 3, 8, tzinfo=UTC)


async def test_without_dates_it_is_this_month_so_far(spending: Spending) -> None:
    now = datetime(2026, 3, 10, 14, 35, tzinfo=UTC)
    report = await spending.costs.report(DEFAULT_ORGANIZATION, CostKey.REGION, now=now)
    assert report.days == DayRange(date(2026, 3, 1), date(2026, 3, 11))
    report = await spending.costs.report(DEFAULT_ORGANIZATION, CostKey.REGION, end="2026-03-01", now=now)
    assert report.days == DayRange(date(2026, 2, 1), date(2026, 3, 1))
    for start, end in (("2026-03-02", "2026-03-02"), ("2026-03-11", None), ("2020-01-01", "2026-01-01")):
        with pytest.raises(InvalidError, match="start"):
            await spending.costs.report(DEFAULT_ORGANIZATION, CostKey.REGION, start=start, end=end, now=now)


async def test_pages_show_the_largest_first_and_each_adds_up_to_the_total(product: Product) -> None:
    spending = Spending(product.fleet.database)
    for number in range(7):
        server = await spending.server(f"web-{number}")
        await spending.spend(server, date(2026, 3, 1), number // 2, requests=number)  # pairs cost the same
    seen: list[str] = []
    cursor = ""
    while True:
        page = await product.get(f"{COSTS}?start=2026-03-01&end=2026-03-02&limit=3{cursor}")
        seen += [item["name"] for item in page["items"]]
        parts = [*page["items"], *([page["other"]] if page["other"] else [])]
        assert sum(Decimal(part["cost_usd"]) for part in parts) == Decimal(page["total"]["cost_usd"]) == 9
        assert sum(part["requests"] for part in parts) == page["total"]["requests"] == 21
        assert round(sum(part["share_percent"] for part in parts), 6) == 100
        assert len(page["items"]) + page["other"]["keys"] == 7
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["web-6", "web-4", "web-5", "web-2", "web-3", "web-0", "web-1"]
    whole = await product.get(f"{COSTS}?start=2026-03-01&end=2026-03-02&limit=7")
    assert (whole["other"], whole["next_cursor"], len(whole["items"])) == (None, None, 7)


async def test_amounts_travel_as_texts_with_six_places(product: Product) -> None:
    spending = Spending(product.fleet.database)
    server = await spending.server("web", region="eu")
    await spending.spend(server, date(2026, 3, 1), "12.340021", None)
    body = await product.get(f"{COSTS}?by=region&start=2026-03-01&end=2026-03-03")
    assert body["items"] == [
        {
            "key": "eu",
            "name": "eu",
            "share_percent": 100.0,
            "cost_usd": "12.340021",
            "requests": 10,
            "cost_before_usd": "0.000000",
            "requests_before": 0,
            "change_percent": None,
        }
    ]
    assert body["days"] == [
        {"date": "2026-03-01", "cost_usd": "12.340021", "requests": 10},
        {"date": "2026-03-02", "cost_usd": None, "requests": None},
    ]
    empty = await product.get(f"{COSTS}?by=tag&start=2026-05-01&end=2026-05-02")
    assert (empty["items"], empty["total"]["cost_usd"], empty["other"]) == ([], "0.000000", None)


async def test_a_wrong_query_names_its_parameter(product: Product) -> None:
    other_key = (await _paged(product))["next_cursor"]
    cases = [
        ("by=colour", "by"),
        ("start=yesterday", "start"),
        ("start=2026-02-30", "start"),
        ("end=2026-3-1T00:00", "end"),
        ("end=0001-01-01", "end"),
        ("end=9999-12-31", "end"),
        ("start=2026-03-02&end=2026-03-01", "start"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("cursor=x", "cursor"),
        (f"by=region&cursor={other_key}", "cursor"),
        ("cursor=WyJzZXJ2ZXIiLCJOYU4iLCJ4Il0", "cursor"),
        ("format=xlsx", "format"),
    ]
    for query, field in cases:
        status, problem = await product.call("GET", f"{COSTS}?{query}")
        assert (status, problem["errors"][0]["field"]) == (422, field), query


async def _paged(product: Product) -> Any:
    spending = Spending(product.fleet.database)
    for number in range(2):
        await spending.spend(await spending.server(f"s-{number}"), date(2026, 3, 1), "1")
    return await product.get(f"{COSTS}?start=2026-03-01&end=2026-03-02&limit=1")


ODD_NAMES = ['a,b "c"', "=1+1", "+1", "-1", "@sum", "größe 漢字", "a;b", "'quoted'", " x", "a\nb", "\t=1", "(other)"]


async def test_csv_comes_back_as_it_was_whatever_the_names(product: Product) -> None:
    spending = Spending(product.fleet.database)
    for number, name in enumerate(ODD_NAMES):
        server = await spending.server(name, tags=[name])
        await spending.spend(server, date(2026, 3, 1), number + 1, 0.5)
    for by, column in (("server", "server"), ("tag", "tag")):
        url = f"{product.url}{COSTS}?by={by}&start=2026-03-02&end=2026-03-03"
        for query, accept in (("&format=csv", "*/*"), ("", "text/csv")):
            headers = {"Authorization": f"Bearer {TOKEN}", "Accept": accept}
            async with product.session.get(url + query, headers=headers) as response:
                assert response.content_type == "text/csv"
                assert (
                    response.headers["Content-Disposition"]
                    == f'attachment; filename="llm-costs-by-{by}-2026-03-02-to-2026-03-03.csv"'
                )
                text = (await response.read()).decode()
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            assert {row[column].removeprefix("'") for row in rows} == {name.removeprefix("'") for name in ODD_NAMES}
            assert not any(row[column].startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows)
            assert {row["cost_usd"] for row in rows} == {"0.500000"}
            assert sorted(Decimal(row["cost_before_usd"]) for row in rows) == list(range(1, len(ODD_NAMES) + 1))
            assert {row["change_percent"] for row in rows if row[column] == "(other)"} == {"-95.83"}
            assert text.count("\r\n") == len(ODD_NAMES) + 1
    async with product.session.get(
        f"{product.url}{COSTS}?start=2026-03-02&end=2026-03-03",
        headers={"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/csv"},
    ) as response:
        assert response.content_type == "application/json"


async def test_strangers_learn_nothing_of_costs(product: Product) -> None:
    for method, path in (("GET", COSTS), ("GET", f"{COSTS}/budget"), ("PUT", f"{COSTS}/budget")):
        status, problem = await product.call(method, path, headers={})
        assert (status, problem["code"]) == (401, "unauthenticated")


amounts = st.integers(0, 10**10).map(lambda micro: Decimal(micro) / 10**6)
fleets = st.lists(st.tuples(st.sampled_from(["eu", "us", None]), st.lists(amounts, min_size=1, max_size=3)), max_size=5)


@given(fleet=fleets)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shares_add_up_and_every_key_tells_the_same_total(
    fleet: list[tuple[str | None, list[Decimal]]], dsn: str
) -> None:
    async def story() -> None:
        database = Database(dsn)
        spending = Spending(database)
        await spending.execute("DELETE FROM managed_servers")
        await spending.execute("DELETE FROM server_metrics_aggregated")
        await spending.execute("DELETE FROM fleet_metrics")
        for number, (region, spent) in enumerate(fleet):
            await spending.spend(await spending.server(f"s-{number}", region=region), date(2026, 3, 1), *spent)
        reports = [
            await spending.costs.report(DEFAULT_ORGANIZATION, by, start="2026-03-02", end="2026-03-04", limit=limit)
            for by in (CostKey.SERVER, CostKey.REGION, CostKey.ENVIRONMENT)
            for limit in (2, 500)
        ]
        await database.close()
        expected = sum((amount for _, spent in fleet for amount in spent[1:]), Decimal(0))
        for report in reports:
            parts = [*report.items, *([report.rest] if report.rest else [])]
            assert report.total.usd == expected
            assert report.total == reports[0].total
            if expected:
                assert round(sum(part.percent or 0 for part in parts) * 100) == 10_000

    asyncio.run(story())


def relations(plan: dict[str, Any]) -> set[str]:
    found = {plan["Relation Name"]} if "Relation Name" in plan else set()
    return found.union(*(relations(inner) for inner in plan.get("Plans", [])))


async def test_costs_of_a_month_read_the_days_of_that_month_and_the_one_before_only(spending: Spending) -> None:
    months = [Month(2026, number) for number in (1, 2, 3, 4)]
    for table in (SERVER_METRICS, FLEET_METRICS):
        await partitions.ensure(spending.database, table, months)
    march = DayRange(date(2026, 3, 1), date(2026, 4, 1))
    bounds = [day_start(march.before.start), day_start(march.start), day_start(march.end)]
    async with spending.database.connection() as connection:

        async def parts(statement: str, *values: Any) -> set[str]:
            raw = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", DEFAULT_ORGANIZATION, *values)
            found = relations(json.loads(raw)[0]["Plan"])
            return {name for name in found if name.startswith(("server_metrics", "fleet_metrics"))}

        for by, table in (
            (CostKey.SERVER, "server_metrics_aggregated"),
            (CostKey.TAG, "server_metrics_aggregated"),
            (CostKey.REGION, "fleet_metrics"),
            (CostKey.ENVIRONMENT, "fleet_metrics"),
        ):
            statement = costs.page_statement(by)
            # 31 days before March begin in January.
            assert await parts(statement, *bounds, None, None, 100) == {
                f"{table}_2026_{month}_1d" for month in ("01", "02", "03")
            }
        for of_servers, table in ((True, "server_metrics_aggregated"), (False, "fleet_metrics")):
            statement = costs.daily_statement(of_servers=of_servers)
            assert await parts(statement, bounds[1], bounds[2]) == {f"{table}_2026_03_1d"}
