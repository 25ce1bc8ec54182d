"""Metrics collection by the product's own worker, PostgreSQL's CPU included."""

import asyncio
import json
import os
import sys
import tempfile
from typing import Any

from benchmarks import machine, processes


async def efficiency(servers: int, cycles: int, interval: float = 2.0) -> dict[str, Any]:
    """Cycles every 2 s, each of a new minute: collections per CPU-second once all is connected, bytes per row."""
    with tempfile.TemporaryDirectory(prefix="opsfleet-bench-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)
        command = [sys.executable, "-m", "benchmarks.metrics_driver", str(servers), str(cycles), str(interval)]
        command += [f"{folder}/data", str(processes.FLEET_PORT), processes.FLEET_TOKEN]
        async with processes.fleet(servers):
            process = await asyncio.create_subprocess_exec(
                *machine.pinned(processes.PRODUCT_CORE), *command, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            window: machine.Window | None = None
            first: dict[str, Any] = {}
            last: dict[str, Any] = {}
            while line := await process.stdout.readline():
                found = json.loads(line)
                if "rows" in found:
                    last |= found
                    continue
                last = found
                if found["cycle"] == 1:
                    window, first = machine.Window((process.pid,)), found
                elif found["cycle"] == cycles - 1 and window is not None:
                    window.close()
            await process.wait()
            assert window is not None
            collected = last["collections_successful"] - first["collections_successful"]
            return {
                "servers": servers,
                "interval_s": interval,
                "collections": collected,
                "collections_per_cpu_second": round(collected / window.cpu),
                "cpu_percent_of_a_core": round(100 * window.cpu / window.wall, 1),
                "success_rate": last["success_rate"],
                "bytes_per_row": last["bytes_per_row"],
                "index_bytes_per_row": last["index_bytes_per_row"],
                "resident_mb": last["resident_mb"],
            }
