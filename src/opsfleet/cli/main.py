"""Puts the commands together, and turns every expected error into one line on stderr."""

import sys
from typing import Annotated

import typer

from opsfleet import __version__
from opsfleet.cli import costs, demo, doctor, metrics, migrate, partitions, serve, servers, simulate, status
from opsfleet.cli.output import complain
from opsfleet.domain.errors import FleetError
from opsfleet.embedded import EmbeddedPostgresError
from opsfleet.settings import SettingsError
from opsfleet.store.migrate import MigrationError
from opsfleet.vault import VaultError

app = typer.Typer(
    name="opsfleet",
    help="Ops-Center Fleet: one control plane that watches and operates many servers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"opsfleet {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""


app.command()(demo.demo)
app.command()(serve.serve)
app.command()(migrate.migrate)
app.command()(doctor.doctor)
app.command()(partitions.partitions)
app.add_typer(servers.app, name="servers")
app.add_typer(metrics.app, name="metrics")
app.command()(status.status)
app.add_typer(costs.app, name="costs")
app.command()(simulate.simulate)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (FleetError, SettingsError, MigrationError, EmbeddedPostgresError, VaultError) as error:
        complain(str(error))
        sys.exit(1)
