"""`opsfleet migrate`: the schema, and nothing else."""

from opsfleet.app import Fleet, prepare_database
from opsfleet.cli.fleet import load_settings, with_settings


def migrate() -> None:
    """Bring the database's schema and partitions up to date."""

    async def run(fleet: Fleet) -> str:
        return await prepare_database(fleet)

    revision = with_settings(load_settings(level="warning"), run)
    print(f"The schema is at revision {revision}.")
