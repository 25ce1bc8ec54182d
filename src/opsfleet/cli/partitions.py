"""`opsfleet partitions`: what history there is, how large it is, and what is made and dropped next."""

from datetime import datetime
from typing import Annotated

import typer
import uvloop

from opsfleet.app import open_fleet
from opsfleet.cli.fleet import load_settings
from opsfleet.cli.output import console, print_json, print_table
from opsfleet.services.partition_overview import Overview, PartitionRow
from opsfleet.settings import Settings
from opsfleet.store.migrate import MigrationError


def partitions(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the partitions with their sizes, and what maintenance makes, archives and drops next; changes nothing."""
    found = uvloop.run(_look(load_settings(level="warning")))
    if json:
        print_json(found)
        return
    columns = ("TABLE", "MONTH", "PERIOD", "ROWS (ESTIMATE)", "SIZE", "STATE")
    print_table(columns, [_cells(row) for row in found.partitions])
    out = console()
    out.print("\nNext:", highlight=False)
    for action in found.next_actions:
        when = _day(action.at) if action.at else "next maintenance"
        out.print(f"  {when}: {action.action}", highlight=False, markup=False, soft_wrap=True)


async def _look(settings: Settings) -> Overview:
    async with open_fleet(settings) as fleet:
        facts = await fleet.maintenance.facts()
        if facts.revision != facts.newest_revision:
            raise MigrationError(
                f"the database's schema is at revision {facts.revision or 'none'}, this version works with "
                f"{facts.newest_revision}; run opsfleet migrate"
            )
        return await fleet.partitions.overview()


def _cells(row: PartitionRow) -> list[str]:
    rows = "unknown" if row.rows_estimate is None else f"{row.rows_estimate:,}"
    return [row.table, row.month or "-", row.period or "-", rows, _size(row.size_bytes), _state(row)]


def _state(row: PartitionRow) -> str:
    match row.state:
        case "kept" if row.kept_until is not None:
            return f"kept until {_day(row.kept_until)}"
        case "due":
            return "dropped at the next maintenance"
        case "not_rolled_up":
            return "past its retention, kept until it is rolled up"
        case "rows_waiting":
            return "default: rows waiting"
        case "empty":
            return "default: empty"
        case "foreign":
            return f"made by others, left alone ({row.name})"
    return row.state


def _size(size: int) -> str:
    for factor, unit in ((1e9, "GB"), (1e6, "MB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
