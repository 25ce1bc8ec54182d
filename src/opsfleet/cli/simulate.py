"""`opsfleet simulate`: a fleet of simulated servers."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from opsfleet.cli.output import complain
from opsfleet.simulate.addresses import MAX_SERVERS
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.simulate.run import RunOptions, run
from opsfleet.simulate.scenario import ScenarioError, load_scenario, scenario_names
from opsfleet.simulate.servers import DEFAULT_PORT, DEFAULT_TOKEN


def simulate(
    servers: Annotated[int, typer.Option(min=1, max=MAX_SERVERS, help="How many servers.")] = 50,
    base_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of every server; 0 takes a free one.")] = (
        DEFAULT_PORT
    ),
    scenario: Annotated[
        str, typer.Option(help=f"What goes wrong: {', '.join(scenario_names())}, or a TOML file.")
    ] = "calm",
    token: Annotated[str, typer.Option(help="Bearer token of every server.")] = DEFAULT_TOKEN,
    seconds: Annotated[float | None, typer.Option("--for", min=0.1, help="Stop by itself after so many seconds.")] = (
        None
    ),
    stats: Annotated[bool, typer.Option("--stats", help="Print a line every 10 s.")] = False,
    write_import: Annotated[
        Path | None, typer.Option(help="Write the servers as JSON for `opsfleet servers import`.")
    ] = None,
) -> None:
    """Simulate many servers on loopback addresses, for demos, tests and benchmarks."""

    def ready(fleet: SimulatedFleet) -> None:
        if write_import is not None:
            write_import.write_bytes(msgspec.json.encode({"servers": fleet.registrations()}))
        typer.echo(f"Simulating {servers} servers at {fleet.url(0)} to {fleet.url(servers - 1)}: {fleet.scenario.name}")

    try:
        options = RunOptions(
            servers=servers,
            port=base_port,
            token=token,
            scenario=load_scenario(scenario),
            seconds=seconds,
            stats=stats,
        )
        run(options, ready, typer.echo)
    except ScenarioError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except OSError as error:
        complain(f"cannot simulate at port {base_port}: {error.strerror or error}")
        raise typer.Exit(1) from None
