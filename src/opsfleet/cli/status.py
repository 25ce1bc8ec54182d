"""`opsfleet status`: fleet and workers at a glance."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from opsfleet.app import Fleet
from opsfleet.cli.fleet import load_settings, ready_fleet
from opsfleet.cli.output import console, print_json, word
from opsfleet.domain.health import HealthStatus
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.servers import ServerStatus

WATCH_SECONDS = 2.0


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the fleet and the workers at a glance."""
    settings = load_settings(level="warning")

    async def run() -> None:
        async with ready_fleet(settings) as fleet:
            if not watch:
                found = await glance(fleet)
                print_json(found) if json else console().print(_render(found))
                return
            with Live(_render(await glance(fleet)), console=console(), refresh_per_second=4) as live:
                while True:
                    await asyncio.sleep(WATCH_SECONDS)
                    live.update(_render(await glance(fleet)))

    try:
        uvloop.run(run())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def glance(fleet: Fleet) -> dict[str, Any]:
    """Return the counts of the default organization's servers, and the workers' statistics."""
    rows = await fleet.servers.summary(DEFAULT_ORGANIZATION)
    workers = await fleet.workers.status()
    by_status = {item.value: 0 for item in ServerStatus}
    by_health = {**{item.value: 0 for item in HealthStatus}, "unchecked": 0}
    for server_status, health, servers in rows:
        by_status[server_status.value] += servers
        if server_status is ServerStatus.ACTIVE:
            by_health[health or "unchecked"] += servers
    return {
        "servers": sum(by_status.values()),
        "by_status": by_status,
        "by_health": by_health,
        **{kind: dict(statistics) for kind, statistics in workers.kinds.items()},
        "instances": len(workers.instances),
        "standing_by": sum(instance.state == "standby" for instance in workers.instances),
    }


def _render(found: Mapping[str, Any]) -> RenderableType:
    line = Text(f"{found['servers']} servers: ")
    parts = [word(name).append(f" {count}", style="default") for name, count in found["by_health"].items()]
    line.append(Text("  ").join(parts))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("WORKER", "RUNNING", "LAST RUN", "TOOK", "SUCCESS", "POLLS", "LAG", "WAITING", "DROPPED"):
        table.add_column(column)
    for subject, polls in (("health", "checks_performed"), ("metrics", "collections_performed")):
        table.add_row(subject, *_worker_cells(found.get(f"{subject}_worker"), polls))
    if found["standing_by"]:
        return Group(line, "", table, "", Text(f"{found['standing_by']} more on standby"))
    return Group(line, "", table)


def _worker_cells(worker: Mapping[str, Any] | None, polls: str) -> list[str | Text]:
    if worker is None:
        return [Text("no", style="red"), *["-"] * 7]
    took = worker["last_duration_seconds"]
    return [
        Text("yes", style="green") if worker["running"] else Text("no", style="red"),
        (worker["last_run"] or "-")[:19].replace("T", " "),
        f"{took:.2f} s" if took is not None else "-",
        f"{worker['success_rate']} %",
        str(worker[polls]),
        f"{worker['lag_seconds']:.2f} s",
        str(worker["results_buffered"]),
        str(worker["results_dropped"]),
    ]
