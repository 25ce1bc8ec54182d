"""People register many servers at once: all or none, and every wrong row is named."""

from tests.support.product import Product
from tests.support.registry import CLOSED, SERVERS, row


async def test_an_import_with_one_bad_row_among_ten_thousand_stores_nothing_and_names_it(product: Product) -> None:
    rows = [row(f"s-{number:05}") for number in range(10_000)]
    rows[7_342]["api_url"] = "htp://typo"
    status, problem = await product.call("POST", f"{SERVERS}/import", {"servers": rows})
    assert (status, problem["code"]) == (422, "invalid_import")
    assert [(error["row"], error["name"], error["field"]) for error in problem["errors"]] == [
        (7_342, "s-07342", "servers.7342.api_url")
    ]
    assert (await product.get(f"{SERVERS}?total=true"))["total"] == 0
    rows[7_342]["api_url"] = CLOSED
    assert await product.call("POST", f"{SERVERS}/import", {"servers": rows}) == (201, {"imported": 10_000})
    assert (await product.get(f"{SERVERS}?total=true"))["total"] == 10_000


async def test_an_import_names_duplicates_within_it_and_with_the_registry(product: Product) -> None:
    await product.call("POST", SERVERS, row("known"))
    rows = [row("new"), row("known"), row("new"), 5]
    status, problem = await product.call("POST", f"{SERVERS}/import", {"servers": rows})
    assert status == 422
    assert {(error["row"], error["message"]) for error in problem["errors"]} == {
        (1, "is registered already"),
        (2, "is the same as in row 0"),
        (3, "must be an object"),
    }
    assert (await product.get(f"{SERVERS}?total=true"))["total"] == 1


async def test_an_import_of_nothing_is_refused(product: Product) -> None:
    for body in ({}, {"servers": []}, {"servers": "x"}, []):
        status, problem = await product.call("POST", f"{SERVERS}/import", body)
        assert (status, problem["errors"][0]["field"]) == (422, "servers")


async def test_every_wrong_row_is_named_with_all_that_is_wrong(product: Product) -> None:
    rows = [row(f"s-{number:03}", api_url="htp://typo") for number in range(250)]
    status, problem = await product.call("POST", f"{SERVERS}/import", {"servers": rows})
    assert status == 422
    assert [error["row"] for error in problem["errors"]] == list(range(250))
    assert "250 of 250 rows" in problem["detail"]


async def test_names_that_are_taken_are_told_together_with_whatever_else_is_wrong(product: Product) -> None:
    long = "x" * 200
    for name in ("known", long):
        assert (await product.call("POST", SERVERS, row(name)))[0] == 201
    rows = [
        row("new", api_url="htp://typo"),
        row("known"),
        row("known", api_url="http://203.0.113.5"),
        row(long),
        row(long[:-1]),
    ]
    status, problem = await product.call("POST", f"{SERVERS}/import", {"servers": rows})
    assert status == 422
    taken = [(error["row"], error["name"]) for error in problem["errors"] if "already" in error["message"]]
    assert taken == [(1, "known"), (2, "known"), (3, long[:100])]
    assert {error["row"]: error["field"] for error in problem["errors"] if error["row"] in {0, 2}} == {
        0: "servers.0.api_url",
        2: "servers.2.name",
    }
    assert "4 of 5 rows" in problem["detail"]


async def test_a_row_with_countless_errors_is_named_with_the_first_few(product: Product) -> None:
    rows = [row("s-1", tags=[1] * 100), row("s-2", **{f"field-{number}": 1 for number in range(1_000)}), 5]
    status, problem = await product.call("POST", f"{SERVERS}/import", {"servers": rows})
    assert status == 422
    found = [error["row"] for error in problem["errors"]]
    assert [found.count(number) for number in range(3)] == [10, 10, 1]
    assert "so are others" in problem["errors"][9]["message"]
