"""`opsfleet migrate`: the schema, and nothing else."""

from typing import Annotated

import typer

from opsfleet.app import Fleet, prepare_database
from opsfleet.cli.fleet import load_settings, with_settings
from opsfleet.cli.output import console, print_json


def migrate(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Bring the database's schema and partitions up to date."""

    async def run(fleet: Fleet) -> str:
        return await prepare_database(fleet)

    revision = with_settings(load_settings(level="warning"), run)
    if json:
        print_json({"revision": revision})
    else:
        console().print(f"The schema is at revision {revision}.", highlight=False)
