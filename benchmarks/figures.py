"""The figures that README shows, taken from the kept results."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

Row = tuple[str, str, str, str]

# What, the benchmark, the key of its figure, and how it is written.
_ROWS: tuple[Row, ...] = (
    (
        "health checks per CPU-second, PostgreSQL included, 10,000 servers",
        "health polling, 2 s",
        "checks_per_cpu_second",
        "{:,}",
    ),
    (
        "metrics collections per CPU-second, PostgreSQL included, 10,000 servers",
        "metrics collection, 2 s",
        "collections_per_cpu_second",
        "{:,}",
    ),
    (
        "beside it: Prometheus scraping 12 values, per CPU-second",
        "Prometheus, 12 values",
        "scrapes_per_cpu_second",
        "{:,}",
    ),
    (
        "beside it: Prometheus with blackbox_exporter, probes per CPU-second",
        "Prometheus with blackbox_exporter",
        "probes_per_cpu_second",
        "{:,}",
    ),
    (
        "beside it: aiohttp, `gather` in batches of ten, no database, per CPU-second",
        "aiohttp, gather in batches of 10",
        "checks_per_cpu_second",
        "{:,}",
    ),
    (
        "the whole product at the default pace, 10,000 servers",
        "health polling, default pace",
        "cpu_percent_of_a_core",
        "{} % of a core",
    ),
    ("resident memory, 10,000 servers, without PostgreSQL", "health polling, default pace", "resident_mb", "{} MB"),
    ("a health cycle of 10,000 servers at full speed", "health polling, full speed", "cycle_seconds_median", "{} s"),
    (
        "100,000 servers every 30 s with 20,000 descriptors: cycles skipped",
        "health polling, 100,000 servers",
        "cycles_skipped",
        "{}",
    ),
    (
        "100,000 servers every 30 s: the whole product",
        "health polling, 100,000 servers",
        "cpu_percent_of_a_core",
        "{} % of a core",
    ),
    ("a minute of 10,000 servers rolled up", "roll-up, a minute", "seconds_median", "{} s"),
    ("a day of 10,000 servers: its hours and the day", "roll-up, a day", "seconds_hours_and_day", "{} s"),
    ("a day of 10,000 servers: its quarters, hours and the day", "roll-up, a day", "seconds", "{} s"),
    (
        "a row of a minute with its indexes, servers of all kinds",
        "bytes of a minute",
        "bytes_simulated_mix_with_indexes",
        "{} bytes",
    ),
    (
        "a row of a minute with its indexes, servers with all 12 values",
        "bytes of a minute",
        "bytes_all_12_values_with_indexes",
        "{} bytes",
    ),
)


def table() -> str:
    """Return the figures as a table in Markdown, with the machine they were measured on."""
    found: dict[str, dict[str, Any]] = {}
    machine: dict[str, Any] = {}
    for file in sorted(RESULTS.glob("*.json")):
        kept = json.loads(file.read_text())
        found |= kept["figures"]
        machine = kept["machine"]
    said = (
        f"Measured with `make bench` on {machine['date']}, on {machine['cores']} shared cores of an {machine['cpu']},\n"
        f"Python {machine['python']}; a fixed piece of work took up to {machine['noise_percent']} % longer in one run\n"
        "than in another. All figures and their units are in [benchmarks/results](benchmarks/results)."
    )
    lines = [said, "", "| what | figure |", "| --- | --- |"]
    for what, benchmark, key, shape in _ROWS:
        if key in found.get(benchmark, ()):
            lines.append(f"| {what} | {shape.format(found[benchmark][key])} |")
    return "\n".join(lines)
