"""Health polling by the whole product, PostgreSQL's CPU included."""

import asyncio
from typing import Any

from benchmarks import machine, processes
from opsfleet.simulate.fleet import simulated_registrations


async def efficiency(servers: int, seconds: float) -> dict[str, Any]:
    """Cycles every 2 s: checks per CPU-second once every connection is made, and memory."""
    async with processes.fleet(servers), processes.product(health_interval="2") as product:
        await product.import_servers(rows(servers))
        await checked(product, 3 * servers)
        before = await product.counted()
        window = machine.Window((product.pid,))
        await asyncio.sleep(seconds)
        checks = await product.counted() - before
        window.close()
        worker = await product.health_worker()
        return {
            "servers": servers,
            "interval_s": 2,
            "checks": int(checks),
            "checks_per_cpu_second": round(checks / window.cpu),
            "cpu_percent_of_a_core": round(100 * window.cpu / window.wall, 1),
            "resident_mb": round(machine.resident_megabytes(product.pid)),
            "cycles_skipped": worker["cycles_skipped"],
            "success_rate": worker["success_rate"],
        }


async def default_pace(servers: int, seconds: float) -> dict[str, Any]:
    """The default settings: how much of a core the product takes."""
    async with processes.fleet(servers), processes.product() as product:
        await product.import_servers(rows(servers))
        await checked(product, 2 * servers)
        before = await product.counted()
        window = machine.Window((product.pid,))
        await asyncio.sleep(seconds)
        checks = await product.counted() - before
        window.close()
        return {
            "servers": servers,
            "interval_s": 30,
            "checks": int(checks),
            "cpu_percent_of_a_core": round(100 * window.cpu / window.wall, 2),
            "resident_mb": round(machine.resident_megabytes(product.pid)),
            "cycles_skipped": (await product.health_worker())["cycles_skipped"],
        }


async def full_speed(servers: int, cycles: int) -> dict[str, Any]:
    """The pace set to the fastest: how long a cycle takes."""
    settings = {"health_interval": "3", "health_batch_delay": "0", "health_batch_size": "50"}
    async with processes.fleet(servers), processes.product(**settings) as product:
        await product.import_servers(rows(servers))
        await checked(product, (cycles + 2) * servers)
        full = sorted(seconds for count, seconds in product.cycles()[2:] if count == servers)
        return {
            "servers": servers,
            "cycles": len(full),
            "cycle_seconds_median": full[len(full) // 2],
            "cycle_seconds_max": full[-1],
        }


async def black_holes(servers: int, share: float, seconds: float) -> dict[str, Any]:
    """A share of the servers never answers: how regularly the others are checked, with and without it.

    `late_ms` is by how much the time between two checks of a server that answers was longer than the interval.
    """
    found: dict[str, Any] = {"servers": servers, "black_holed": int(servers * share)}
    settings = {"health_interval": "10", "request_timeout": "4"}
    for name, scenario in (("without", "calm"), ("with", "black-holes")):
        async with processes.fleet(servers, scenario), processes.product(**settings) as product:
            await product.import_servers(rows(servers))
            await checked(product, 2 * servers)
            before = await product.counted()
            await asyncio.sleep(seconds)
            worker = await product.health_worker()
            (late,) = await product.fetch(_LATENESS)
            found |= {f"late_ms_{key}_{name}": round(value * 1000, 1) for key, value in late.items()}
            found[f"checks_{name}"] = int(await product.counted() - before)
            found[f"cycles_skipped_{name}"] = worker["cycles_skipped"]
            found[f"success_rate_{name}"] = worker["success_rate"]
    return found


_LATENESS = """
    WITH gaps AS (
        SELECT extract(epoch FROM timestamp - lag(timestamp) OVER (PARTITION BY server_id ORDER BY timestamp))::float8
            - 10 AS late
        FROM server_health_checks WHERE status <> 'unreachable' AND timestamp > (
            SELECT min(timestamp) + interval '21 seconds' FROM server_health_checks
        )
    )
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY late) AS p50,
        percentile_cont(0.99) WITHIN GROUP (ORDER BY late) AS p99, max(late) AS max
    FROM gaps WHERE late IS NOT NULL
"""


async def hundred_thousand(servers: int, cycles: int) -> dict[str, Any]:
    """Very many servers at the default interval, within the limit of descriptors."""
    async with processes.fleet(servers), processes.product() as product:
        await product.import_servers(rows(servers))
        await checked(product, servers, seconds=300)
        window = machine.Window((product.pid,))
        before = await product.counted()
        await checked(product, (cycles + 1) * servers, seconds=60 * (cycles + 1))
        window.close()
        worker = await product.health_worker()
        full = [seconds for count, seconds in product.cycles() if count == servers]
        return {
            "servers": servers,
            "interval_s": 30,
            "cycles": len(full),
            "cycle_seconds_max": max(full),
            "cycles_skipped": worker["cycles_skipped"],
            "success_rate": worker["success_rate"],
            "checks_per_cpu_second": round((await product.counted() - before) / window.cpu),
            "cpu_percent_of_a_core": round(100 * window.cpu / window.wall, 1),
            "resident_mb": round(machine.resident_megabytes(product.pid)),
        }


def rows(servers: int) -> list[dict[str, Any]]:
    """Return the registrations of the simulated fleet."""
    return simulated_registrations(servers, port=processes.FLEET_PORT, token=processes.FLEET_TOKEN)


async def checked(product: processes.Product, checks: int, seconds: float = 240) -> None:
    """Wait until so many checks were performed."""
    async with asyncio.timeout(seconds):
        while await product.counted() < checks:
            await asyncio.sleep(0.25)
