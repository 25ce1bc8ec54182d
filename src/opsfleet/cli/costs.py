"""`opsfleet costs`: what language models cost, and the budget for it."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from opsfleet.api.costs_wire import budget_report, cost_csv, cost_report
from opsfleet.app import Fleet
from opsfleet.cli.fleet import with_fleet
from opsfleet.cli.output import complain, console, print_json, print_table
from opsfleet.domain.budgets import CRITICAL_PERCENT, WARNING_PERCENT, BudgetState, month_of, month_text
from opsfleet.domain.costs import Cost, CostKey
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.partitions import Month
from opsfleet.services.costs import MAX_KEYS, BudgetReport, CostReport

app = typer.Typer(help="Show what language models cost, and the budget for it.", invoke_without_command=True)
budget_app = typer.Typer(help="Show, set or remove the budget; shows it unless told otherwise.")
app.add_typer(budget_app, name="budget", invoke_without_command=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MonthOption = Annotated[str | None, typer.Option(help="Such as 2026-11; the current one unless given.")]

ROWS_SHOWN = 20

_STYLES = {
    BudgetState.OK: "green",
    BudgetState.WARNING: "yellow",
    BudgetState.CRITICAL: "red",
    BudgetState.EXCEEDED: "bright_red",
}


@app.callback()
def costs(
    context: typer.Context,
    by: Annotated[CostKey, typer.Option(help="What to tell costs by.")] = CostKey.SERVER,
    start: Annotated[str | None, typer.Option(help="First day (UTC), such as 2026-11-01.")] = None,
    end: Annotated[str | None, typer.Option(help="Day after the last one; tomorrow unless given.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_KEYS, help="At most so many keys; the rest is summed up.")
    ] = ROWS_SHOWN,
    csv: Annotated[str | None, typer.Option(metavar="FILE", help="Write all as CSV; - is stdout.")] = None,
    json: JsonOption = False,
) -> None:
    """Show what language models cost over a range of days, this month so far unless given."""
    if context.invoked_subcommand is not None:
        return
    if csv is not None and json:
        complain("give --csv or --json, not both")
        raise typer.Exit(1)
    shown = MAX_KEYS if csv is not None else limit

    async def run(fleet: Fleet) -> CostReport:
        return await fleet.costs.report(DEFAULT_ORGANIZATION, by, start=start, end=end, limit=shown)

    report = with_fleet(run)
    if csv is not None:
        _write_csv(report, csv)
    elif json:
        print_json(cost_report(report))
    else:
        _print_report(report)


@budget_app.callback()
def budget(context: typer.Context) -> None:
    """Show, set or remove the budget; shows that of this month unless told otherwise."""
    if context.invoked_subcommand is None:
        show(None)


@budget_app.command()
def show(month: MonthOption = None, json: JsonOption = False) -> None:
    """Show how a month stands to its budget, and what it will come to."""
    wanted = _month(month)

    async def run(fleet: Fleet) -> BudgetReport:
        return await fleet.costs.budget(DEFAULT_ORGANIZATION, wanted)

    _print_budget(with_fleet(run), json)


@budget_app.command("set")
def set_budget(
    amount: Annotated[str, typer.Argument(help="US dollars a month, such as 500 or 99.50.")],
    month: MonthOption = None,
    warning: Annotated[int, typer.Option(metavar="PERCENT", help="When to warn.")] = WARNING_PERCENT,
    critical: Annotated[int, typer.Option(metavar="PERCENT", help="When it is critical.")] = CRITICAL_PERCENT,
    json: JsonOption = False,
) -> None:
    """Set the budget from a month on, until a later month has its own."""
    raw = {"amount_usd": amount, "month": month, "warning_percent": warning, "critical_percent": critical}

    async def run(fleet: Fleet) -> BudgetReport:
        return await fleet.costs.set_budget(DEFAULT_ORGANIZATION, raw)

    _print_budget(with_fleet(run), json)


@budget_app.command()
def remove(month: MonthOption = None) -> None:
    """Remove the budget of a month; that of the last month before it holds then."""
    wanted = _month(month)

    async def run(fleet: Fleet) -> Month:
        return await fleet.costs.remove_budget(DEFAULT_ORGANIZATION, wanted)

    console().print(f"Removed the budget of {month_text(with_fleet(run))}.")


def _month(text: str | None) -> Month | None:
    return month_of(text) if text is not None else None


def _write_csv(report: CostReport, file: str) -> None:
    if file == "-":
        for chunk in cost_csv(report):
            sys.stdout.buffer.write(chunk.encode())
        sys.stdout.flush()
        return
    try:
        with Path(file).open("w", encoding="utf-8", newline="") as output:
            output.writelines(cost_csv(report))
    except OSError as error:
        complain(f"cannot write {file}: {error.strerror}")
        raise typer.Exit(1) from None


def _print_report(report: CostReport) -> None:
    rows = [_row(item.of.name or item.of.key or "(none)", item.of.cost, item.percent) for item in report.items]
    if report.rest:
        rows.append(_row(f"({report.rest.keys} others)", report.rest.cost, report.rest.percent))
    rows.append(_row("total", report.total, None))
    print_table([report.by.value.upper(), "COST USD", "SHARE", "REQUESTS", "BEFORE USD", "CHANGE"], rows)
    note = f"{report.days.start} to {report.days.end} (excluded), UTC; complete until {_moment(report.complete_until)}."
    if report.counts_several_times:
        note += " A server of several tags counts under each."
    console().print(Text(note, style="bright_black"))


def _row(name: str, cost: Cost, percent: float | None) -> tuple[str | Text, ...]:
    change = cost.change_percent
    return (
        Text(name),
        f"{cost.usd:,.2f}",
        f"{percent:.2f} %" if percent is not None else "-",
        f"{cost.requests:,}",
        f"{cost.usd_before:,.2f}",
        f"{change:+.1f} %" if change is not None else "-",
    )


def _print_budget(report: BudgetReport, as_json: bool) -> None:
    if as_json:
        print_json(budget_report(report))
        return
    held = report.budget
    line = Text(f"{month_text(report.month)}: ${report.spent:,.2f} spent")
    if held is None:
        line.append(", no budget")
    else:
        line.append(f" of ${held.amount_usd:,.2f}")
        line.append(f" ({report.percent} %), " if report.percent is not None else ", ")
        line.append(report.state.value, style=_STYLES.get(report.state, ""))
    console().print(line)
    found = report.forecast
    if found is None:
        console().print(f"No forecast: {report.no_forecast}.")
    else:
        console().print(
            f"Forecast ${found.usd:,.2f}; 80 %: ${found.interval_80.low:,.2f} to ${found.interval_80.high:,.2f}; "
            f"95 %: ${found.interval_95.low:,.2f} to ${found.interval_95.high:,.2f} (from {found.days_used} days)."
        )
    for item in report.thresholds:
        when = f"{'reached' if item.reached else 'expected'} on {item.on}" if item.on else "not this month"
        console().print(f"{item.percent} % (${item.amount_usd:,.2f}): {when}")


def _moment(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
