"""Tables for people, JSON for machines, complaints to stderr."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

_COLOURS = {
    "healthy": "green",
    "degraded": "yellow",
    "critical": "red",
    "unreachable": "bright_red",
    "active": "green",
    "maintenance": "yellow",
    "inactive": "bright_black",
}


def console() -> Console:
    """Return a console on stdout, wide enough for pipes."""
    return Console() if sys.stdout.isatty() else Console(width=200, no_color=True)


def print_json(value: object) -> None:
    """Print `value` as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a table."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def complain(message: str) -> None:
    """Print one line to stderr."""
    print(f"opsfleet: {' '.join(message.split())}", file=sys.stderr)


def word(value: object) -> Text:
    """Return a status word in its colour, a dash for none."""
    text = str(value) if value is not None else "-"
    return Text(text, style=_COLOURS.get(text, ""))


def ago(moment: datetime | None) -> str:
    """Return how long ago `moment` was, in the largest fitting unit."""
    if moment is None:
        return "never"
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
