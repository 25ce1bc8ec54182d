"""Shares add up, and spreadsheets stay harmless."""

import csv
import io
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from opsfleet.domain.costs import Cost, shares, usd
from opsfleet.domain.spreadsheets import csv_chunks, defused


@given(st.lists(st.integers(0, 10**15).map(lambda micro: Decimal(micro) / 10**6), max_size=200))
def test_shares_add_up_to_exactly_one_hundred(parts: list[Decimal]) -> None:
    found = shares(parts)
    whole = sum(parts)
    if not whole:
        assert found == [None] * len(parts)
        return
    hundredths = [round(value * 100) for value in found if value is not None]
    assert sum(hundredths) == 10_000
    assert all(abs(value - part * 10_000 / whole) < 1 for value, part in zip(hundredths, parts, strict=True))


def test_thirds_are_not_lost() -> None:
    assert shares([Decimal(1)] * 3) == [33.34, 33.33, 33.33]


def test_a_change_from_nothing_is_none() -> None:
    assert Cost(Decimal(5)).change_percent is None
    assert Cost(Decimal(0), 0, Decimal(4), 1).change_percent == -100.0


def test_amounts_have_six_places_whatever_their_size() -> None:
    assert [usd(Decimal(text)) for text in ("0", "1E+3", "999999999999.000001")] == [
        "0.000000",
        "1000.000000",
        "999999999999.000001",
    ]
    assert usd(None) is None


cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


@given(st.lists(st.tuples(cells, cells), max_size=20))
def test_csv_gives_back_every_text_but_formulas(rows: list[tuple[str, str]]) -> None:
    text = "".join(csv_chunks(["a", "b"], rows))
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read == [["a", "b"], *([defused(cell) for cell in row] for row in rows)]
    assert not any(cell[:1] in {"=", "+", "-", "@", "\t", "\r"} for row in read for cell in row if cell)


def test_numbers_keep_their_sign_and_nothing_is_empty() -> None:
    assert "".join(csv_chunks(["change"], [[-5.5], [None], ["-5.5"], ["'x"]])) == (
        "change\r\n-5.5\r\n\"\"\r\n'-5.5\r\n'x\r\n"
    )


def test_long_lists_come_in_pieces() -> None:
    pieces = list(csv_chunks(["n"], ([number] for number in range(1_200))))
    assert len(pieces) == 3
    assert "".join(pieces).count("\r\n") == 1_201
