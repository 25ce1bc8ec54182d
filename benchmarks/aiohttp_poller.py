"""The plain poller that the product is measured beside; prints its figures as JSON."""

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp

from benchmarks import processes
from opsfleet.simulate.fleet import simulated_registrations

BATCH = 10


async def check(session: aiohttp.ClientSession, row: dict[str, Any]) -> bool:
    """Ask one server for its health."""
    async with session.get(
        f"{row['api_url']}/health", headers={"Authorization": f"Bearer {row['api_token']}"}
    ) as answer:
        body = await answer.json()
        return answer.status == 200 and body.get("status") == "ok"


async def main(servers: int, rounds: int) -> None:
    """Poll all servers in batches, several times."""
    rows = simulated_registrations(servers, port=processes.FLEET_PORT, token=processes.FLEET_TOKEN)
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=300)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
        figures = []
        for _ in range(rounds + 1):
            cpu, wall, good = time.process_time(), time.monotonic(), 0
            for start in range(0, len(rows), BATCH):
                results = await asyncio.gather(*(check(session, row) for row in rows[start : start + BATCH]))
                good += sum(results)
            figures.append((time.process_time() - cpu, time.monotonic() - wall, good))
    warm = figures[1:]  # the first round connects
    print(
        json.dumps(
            {
                "servers": servers,
                "checks": len(warm) * servers,
                "checks_per_cpu_second": round(len(warm) * servers / sum(cpu for cpu, _, _ in warm)),
                "cycle_seconds": round(sum(wall for _, wall, _ in warm) / len(warm), 2),
                "good": sum(good for _, _, good in warm),
            }
        )
    )


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
