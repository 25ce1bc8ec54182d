"""`opsfleet metrics`: a server's metrics over time, in the terminal."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text

from opsfleet.api.series import server_series
from opsfleet.app import Fleet
from opsfleet.cli.charts import bars, squeezed
from opsfleet.cli.fleet import with_fleet
from opsfleet.cli.output import ago, complain, console, print_json
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.series import COLUMNS, MAX_RANGE, columns_of
from opsfleet.domain.servers import Server
from opsfleet.services.series import ServerSeries

app = typer.Typer(help="Show metrics.", no_args_is_help=True)

HEIGHT = 3
PIPED_WIDTH = 100
MARGIN = 2

_RANGE = re.compile(r"([1-9]\d{0,5})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class Metric:
    """What is drawn under a name: a column, as `shown`. `top` is the value that fills the chart, if it is fixed.

    `highest` is the column of the maxima. A `rate` is the column's increase per second.
    """

    column: str
    shown: Callable[[float], str]
    top: float | None = None
    highest: str | None = None
    is_rate: bool = False


def _percent(value: float) -> str:
    return f"{value:.1f} %"


def _bytes_per_second(value: float) -> str:
    for unit in ("B/s", "kB/s", "MB/s", "GB/s"):
        if value < 1_000:
            return f"{value:.1f} {unit}"
        value /= 1_000
    return f"{value:,.1f} TB/s"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _dollars(value: float) -> str:
    return f"${value:,.4f}" if value < 1 else f"${value:,.2f}"


METRICS = {
    "cpu": Metric("cpu_percent", _percent, 100, "cpu_percent_max"),
    "memory": Metric("memory_percent", _percent, 100, "memory_percent_max"),
    "disk": Metric("disk_percent", _percent, 100, "disk_percent_max"),
    "network-rx": Metric("network_rx_bytes", _bytes_per_second, is_rate=True),
    "network-tx": Metric("network_tx_bytes", _bytes_per_second, is_rate=True),
    "services": Metric("active_services", _count),
    "failed-services": Metric("failed_services", _count),
    "users": Metric("active_users", _count),
    "llm-requests": Metric("llm_requests", _count),
    "llm-cost": Metric("llm_cost_usd", _dollars),
}
"""What can be drawn. LLM requests and cost are what was added in each bucket."""


@app.command()
def show(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Its name or id.")],
    span: Annotated[str, typer.Option("--range", "-r", help="How far back, such as 90m, 24h, 7d or 30d.")] = "24h",
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help=f"All that have values unless given: {', '.join(METRICS)}."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a server's metrics as small charts."""
    back = _span(span)
    names = _names(metric or [])

    async def run(fleet: Fleet) -> tuple[Server, ServerSeries]:
        found = await fleet.servers.find(DEFAULT_ORGANIZATION, server)
        end = datetime.now(UTC)
        return found, await fleet.series.of_server(DEFAULT_ORGANIZATION, found.id, start=end - back, end=end)

    found, series = with_fleet(run)
    if json:
        print_json(server_series(series))
        return
    shown = _charts(series, names, all_of_them=bool(metric))
    if not series.rows or not shown:
        console().print(Text(f"No metrics of {found.name} in the last {span}; it was {_last(series)}."))
        return
    console().print(Text(f"{found.name}, the last {span} by {series.period.value}", style="bold"))
    for text in shown:
        console().print(text, no_wrap=True, crop=False)


def _last(series: ServerSeries) -> str:
    last = series.last
    when = f"last collected from {ago(last.collected_at)}" if last.collected_at else "never collected from"
    return f"{when}, and since then: {last.error}" if last.error else when


def _charts(series: ServerSeries, names: Sequence[str], *, all_of_them: bool) -> list[Text]:
    columns = columns_of(COLUMNS, series.rows, series.span, series.period)
    seconds = series.period.length.total_seconds()
    found = []
    for name in names:
        metric = METRICS[name]
        values: list[float | None] = columns[metric.column]
        if metric.is_rate:
            values = [None if value is None else value / seconds for value in values]
        if any(value is not None for value in values):
            found.append(_chart(name, metric, values, columns[metric.highest] if metric.highest else values))
        elif all_of_them:
            found.append(Text(f"\n{name}: no values"))
    return found


def _chart(name: str, metric: Metric, values: Sequence[float | None], maxima: Sequence[float | None]) -> Text:
    known = [value for value in values if value is not None]
    highest = max(value for value in (*known, *maxima) if value is not None)
    figures = {
        "min": min(known),
        "avg": sum(known) / len(known),
        "max": highest,
        "last": known[-1],
    }
    heading = Text(f"\n{name}", style="bold")
    heading.append("".join(f"  {word} {metric.shown(value)}" for word, value in figures.items()), style="not bold")
    terminal = console()
    width = (terminal.width if terminal.is_terminal else PIPED_WIDTH) - MARGIN
    places = squeezed(values, max(1, width))
    top = metric.top or max(place for place in places if place is not None)
    for line in bars(places, top, HEIGHT):
        heading.append(f"\n{' ' * MARGIN}{line}", style="not bold cyan")
    return heading


def _span(text: str) -> timedelta:
    found = _RANGE.fullmatch(text.strip().lower())
    if found is None or (back := int(found[1]) * _UNITS[found[2]]) > MAX_RANGE:
        complain(f"--range is {text!r}; accepted are minutes, hours or days such as 90m, 24h or 30d, up to ten years")
        raise typer.Exit(1)
    return back


def _names(given: Sequence[str]) -> list[str]:
    for name in given:
        if name not in METRICS:
            complain(f"--metric is {name!r}; accepted are {', '.join(METRICS)}")
            raise typer.Exit(1)
    return list(dict.fromkeys(given)) or list(METRICS)
