"""`python -m benchmarks`: run all benchmarks, print their figures, keep them in `benchmarks/results/`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import health_polling, machine, metric_queries, metrics_polling, peers, rollups

RESULTS = Path(__file__).parent / "results"

HEALTH_POLLING = "health-polling.json"
METRICS_HISTORY = "metrics-history.json"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What to run, and the file of `results/` that its figures are kept in."""

    file: str
    run: Callable[[], Awaitable[dict[str, Any] | None]]


def benchmarks(quick: bool) -> dict[str, Benchmark]:
    """Return the benchmarks by name; `quick` ones only show that they run."""
    n, seconds, rounds = (500, 6.0, 2) if quick else (10_000, 30.0, 5)
    found = {
        "health polling, 2 s": Benchmark(HEALTH_POLLING, lambda: health_polling.efficiency(n, seconds)),
        "health polling, full speed": Benchmark(HEALTH_POLLING, lambda: health_polling.full_speed(n, rounds)),
        "aiohttp, gather in batches of 10": Benchmark(HEALTH_POLLING, lambda: peers.aiohttp_gather(n, rounds)),
        "metrics collection, 2 s": Benchmark(
            METRICS_HISTORY, lambda: metrics_polling.efficiency(n, 4 if quick else 15)
        ),
        "roll-up, a minute": Benchmark(METRICS_HISTORY, lambda: rollups.minute(n)),
        "roll-up, a day": Benchmark(METRICS_HISTORY, lambda: rollups.day(n, 2 if quick else 24)),
        "bytes of a minute": Benchmark(METRICS_HISTORY, lambda: rollups.room(n, 60)),
        "metric queries": Benchmark(
            METRICS_HISTORY,
            lambda: metric_queries.queries(300, 3, 10) if quick else metric_queries.queries(10_000, 30, 200),
        ),
    }
    if not quick:
        found |= {
            "health polling, default pace": Benchmark(HEALTH_POLLING, lambda: health_polling.default_pace(n, 90)),
            "health polling, 5 % black holes": Benchmark(
                HEALTH_POLLING, lambda: health_polling.black_holes(n, 0.05, 40)
            ),
            "health polling, 100,000 servers": Benchmark(
                HEALTH_POLLING, lambda: health_polling.hundred_thousand(100_000, 3)
            ),
            "Prometheus, 12 values": Benchmark(HEALTH_POLLING, lambda: peers.prometheus(n // 2, 40)),
            "Prometheus with blackbox_exporter": Benchmark(HEALTH_POLLING, lambda: peers.blackbox(n // 4, 40)),
        }
    return found


async def run(names: list[str], quick: bool, write: bool) -> None:
    """Run the benchmarks whose names contain one of `names`, or all."""
    described = machine.describe()
    print(f"machine: {described}", flush=True)
    figures: dict[str, dict[str, Any]] = {}
    for name, benchmark in benchmarks(quick).items():
        if names and not any(word in name for word in names):
            continue
        found = await benchmark.run()
        if found is None:
            print(f"\n{name}: not installed here", flush=True)
            continue
        figures.setdefault(benchmark.file, {})[name] = found
        print(f"\n{name}", flush=True)
        for key, value in found.items():
            print(
                f"  {key:<28} {value:>12,}" if isinstance(value, int | float) else f"  {key:<28} {value:>12}",
                flush=True,
            )
    described["noise_percent_after"] = machine.noise()
    if write:
        for file, new in figures.items():
            keep(RESULTS / file, described, new, add=bool(names))


def keep(file: Path, described: dict[str, Any], figures: dict[str, Any], *, add: bool) -> None:
    """Write figures to a file of results; `add` keeps what else is in it."""
    file.parent.mkdir(exist_ok=True)
    kept = json.loads(file.read_text()) if file.exists() and add else {"figures": {}}
    kept["machine"] = described
    kept["figures"] |= figures
    file.write_text(json.dumps(kept, indent=2) + "\n")
    print(f"\nkept in {file.relative_to(Path.cwd())}" if file.is_relative_to(Path.cwd()) else f"\nkept in {file}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="run only benchmarks whose name contains one of these")
    parser.add_argument("--quick", action="store_true", help="small and short: shows only that they run")
    parser.add_argument("--no-write", action="store_true", help="do not keep the results")
    arguments = parser.parse_args()
    try:
        asyncio.run(run(arguments.names, arguments.quick, not arguments.no_write))
    except KeyboardInterrupt:
        sys.exit(130)


main()
