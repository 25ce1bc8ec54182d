"""Small charts of block characters."""

from collections.abc import Sequence

GAP = "·"
"""Stands where there was nothing to draw, so that it is not taken for zero."""

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def squeezed(values: Sequence[float | None], width: int) -> list[float | None]:
    """Return `values` averaged into at most `width` places; a place in which all are missing is missing."""
    if len(values) <= width:
        return list(values)
    places: list[float | None] = []
    for place in range(width):
        part = values[place * len(values) // width : (place + 1) * len(values) // width]
        known = [value for value in part if value is not None]
        places.append(sum(known) / len(known) if known else None)
    return places


def bars(values: Sequence[float | None], top: float, height: int) -> list[str]:
    """Return the lines, the highest first, of a chart with a bar for each value; `top` fills all `height` lines.

    Every bar shows at least its foot, and what is missing shows as `GAP`.
    """
    lines = []
    for line in reversed(range(height)):
        signs = []
        for value in values:
            if value is None:
                signs.append(" " if line else GAP)
                continue
            eighths = round(8 * height * min(1.0, max(0.0, value / top))) if top > 0 else 0
            if not line:
                eighths = max(1, eighths)
            signs.append(_EIGHTHS[min(8, max(0, eighths - 8 * line))])
        lines.append("".join(signs))
    return lines
