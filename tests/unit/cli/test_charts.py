"""Charts in the terminal: heights, gaps and widths."""

from opsfleet.cli.charts import GAP, bars, squeezed


def test_bars_rise_in_eighths_of_a_line() -> None:
    assert bars([0, 25, 50, 75, 100], 100, 1) == ["▁▂▄▆█"]
    assert bars([0, 25, 50, 75, 100], 100, 2) == ["   ▄█", "▁▄███"]


def test_a_gap_is_not_a_zero() -> None:
    assert bars([None, 0, 100], 100, 2) == ["  █", f"{GAP}▁█"]


def test_nothing_but_zeros_is_a_flat_line() -> None:
    assert bars([0, 0], 0, 1) == ["▁▁"]


def test_what_is_over_the_top_fills_its_bar() -> None:
    assert bars([150, -3], 100, 1) == ["█▁"]


def test_many_values_are_averaged_and_gaps_stay() -> None:
    assert squeezed([1, 3, None, 5, None, None], 3) == [2, 5, None]
    assert squeezed([1, None], 80) == [1, None]
    assert len(squeezed([1.0] * 997, 80)) == 80
