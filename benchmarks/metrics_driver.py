"""The metrics worker with a clock that runs a minute for each cycle, so that every cycle writes new rows.

`python -m benchmarks.metrics_driver SERVERS CYCLES INTERVAL DATA_DIR FLEET_PORT TOKEN`: prints a JSON line when it is
ready and one after each cycle. Everything is the product's: registry, engine, worker, buffer, embedded PostgreSQL.
"""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta

import uvloop

from benchmarks import machine
from opsfleet.app import open_fleet, prepare_database, spare_the_collector
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.metrics import minute_of
from opsfleet.logs import configure_logging
from opsfleet.services.targets import TargetSource
from opsfleet.settings import Settings
from opsfleet.simulate.servers import simulated_registrations
from opsfleet.workers.metrics import FleetMetricsWorker
from opsfleet.workers.polling import Pacing


async def drive(servers: int, cycles: int, interval: float, data_dir: str, port: int, token: str) -> None:
    """Register the fleet, then run the cycles, one each `interval` seconds."""
    configure_logging("json", "warning", sys.stderr)
    settings = Settings.from_environment({"FLEET_DATA_DIR": data_dir})
    async with open_fleet(settings) as fleet:
        await prepare_database(fleet)
        await fleet.servers.import_many(DEFAULT_ORGANIZATION, simulated_registrations(servers, port=port, token=token))
        async with fleet.database.connection() as connection:
            await connection.execute("UPDATE managed_servers SET health_status = 'healthy'")
        source = TargetSource(fleet.database, fleet.vault)
        worker = FleetMetricsWorker(
            source,
            fleet.engine,
            Pacing(interval, 10, 0.5, 100_000),
            service=fleet.metrics,
            maintenance=fleet.maintenance,
        )
        await worker.initialize()
        spare_the_collector()
        minute = minute_of(datetime.now(UTC))
        loop = asyncio.get_running_loop()
        start = loop.time()
        for cycle in range(cycles):
            await asyncio.sleep(start + cycle * interval - loop.time())
            await worker.run_cycle(minute + cycle * timedelta(minutes=1))
            print(json.dumps({"cycle": cycle, **worker.get_stats()}), flush=True)
        async with fleet.database.connection() as connection:
            size = await connection.fetchrow(
                """
                SELECT sum(pg_table_size(relid))::bigint AS table_bytes,
                    sum(pg_indexes_size(relid))::bigint AS index_bytes
                FROM pg_partition_tree('server_metrics_aggregated') WHERE isleaf
                """
            )
            rows = await connection.fetchval("SELECT count(*) FROM server_metrics_aggregated")
        assert size is not None
        print(
            json.dumps(
                {
                    "rows": rows,
                    "bytes_per_row": round((size["table_bytes"] + size["index_bytes"]) / rows, 1),
                    "index_bytes_per_row": round(size["index_bytes"] / rows, 1),
                    "resident_mb": round(machine.resident_megabytes(os.getpid())),
                }
            ),
            flush=True,
        )
        await worker.stop()
        await worker.cleanup()


def main() -> None:
    """Take the arguments apart."""
    servers, cycles, interval, data_dir, port, token = sys.argv[1:]
    uvloop.run(drive(int(servers), int(cycles), float(interval), data_dir, int(port), token))


if __name__ == "__main__":
    main()
