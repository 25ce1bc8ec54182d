"""The same question asked by others on the same machine: a plain aiohttp poller, Prometheus, blackbox_exporter."""

import asyncio
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import machine, processes
from opsfleet.simulate.fleet import simulated_registrations

EXPORTER_PORT = 19102
PROMETHEUS_PORT = 19190
BLACKBOX_PORT = 19115
BATCH = 10


async def aiohttp_gather(servers: int, rounds: int) -> dict[str, Any]:
    """A poller as one would write it first: batches of ten by `gather`, one session with keep-alive, no database."""
    async with processes.fleet(servers):
        command = [sys.executable, "-m", "benchmarks.aiohttp_poller", str(servers), str(rounds)]
        process = await asyncio.create_subprocess_exec(
            *machine.pinned(processes.PRODUCT_CORE), *command, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        found: dict[str, Any] = json.loads(out)
        return found


async def prometheus(targets: int, seconds: float) -> dict[str, Any] | None:
    """Prometheus scraping 12 values from each target; None when it is not installed."""
    if shutil.which("prometheus") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        config = _prometheus_config(Path(folder), targets, EXPORTER_PORT, [])
        exporter = [sys.executable, "-m", "benchmarks.exporter", str(EXPORTER_PORT)]
        async with processes.child(exporter, processes.FLEET_CORE):
            await processes.listening(EXPORTER_PORT)
            async with processes.child(_prometheus_command(folder, config), processes.PRODUCT_CORE) as process:
                return await _measure("scrapes", targets, seconds, (process.pid,), process.pid)


async def blackbox(targets: int, seconds: float) -> dict[str, Any] | None:
    """Prometheus asking blackbox_exporter for an HTTP probe of each target: the question of a health check."""
    program = shutil.which("prometheus-blackbox-exporter")
    if program is None or shutil.which("prometheus") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        modules = Path(folder) / "blackbox.yml"
        modules.write_text(
            "modules:\n  health:\n    prober: http\n    timeout: 9s\n    http:\n"
            f"      headers:\n        Authorization: Bearer {processes.FLEET_TOKEN}\n"
        )
        relabel = [
            "    relabel_configs:",
            "      - source_labels: [__address__]",
            "        replacement: 'http://$1/health'",
            "        target_label: __param_target",
            "      - {source_labels: [__address__], target_label: instance}",
            f"      - {{target_label: __address__, replacement: '127.0.0.1:{BLACKBOX_PORT}'}}",
        ]
        config = _prometheus_config(
            Path(folder),
            targets,
            processes.FLEET_PORT,
            ["    metrics_path: /probe", "    params: {module: [health]}", *relabel],
        )
        exporter = [program, f"--config.file={modules}", f"--web.listen-address=127.0.0.1:{BLACKBOX_PORT}"]
        async with (
            processes.fleet(targets),
            processes.child([*exporter, "--log.level=error"], processes.PRODUCT_CORE) as prober,
        ):
            await processes.listening(BLACKBOX_PORT)
            async with processes.child(_prometheus_command(folder, config), processes.PRODUCT_CORE) as process:
                return await _measure("probes", targets, seconds, (process.pid, prober.pid), process.pid)


def _prometheus_config(folder: Path, targets: int, port: int, extra: list[str]) -> Path:
    addresses = [
        re.sub(r"^http://", "", row["api_url"]) for row in simulated_registrations(targets, port=port, token="-")
    ]
    (folder / "targets.json").write_text(json.dumps([{"targets": addresses}]))
    config = folder / "prometheus.yml"
    lines = ["global:", "  scrape_interval: 10s", "  scrape_timeout: 10s", "scrape_configs:", "  - job_name: fleet"]
    lines += [f"    file_sd_configs: [{{files: ['{folder}/targets.json']}}]", *extra]
    config.write_text("\n".join(lines) + "\n")
    return config


def _prometheus_command(folder: str, config: Path) -> list[str]:
    return [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
        "--log.level=error",
    ]


async def _measure(
    what: str, targets: int, seconds: float, pids: tuple[int, ...], prometheus_pid: int
) -> dict[str, Any]:
    await processes.listening(PROMETHEUS_PORT)
    await asyncio.sleep(15)
    before = await _samples()
    window = machine.Window(pids)
    await asyncio.sleep(seconds)
    done = await _samples() - before
    window.close()
    return {
        "targets": targets,
        "interval_s": 10,
        what: int(done),
        f"{what}_per_cpu_second": round(done / window.cpu),
        "resident_mb": round(machine.resident_megabytes(prometheus_pid)),
    }


async def _samples() -> float:
    """Return how many scrapes Prometheus has made, from its own metrics."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{PROMETHEUS_PORT}/metrics") as response,
    ):
        text = await response.text()
    found = re.search(r"^prometheus_target_interval_length_seconds_count\{[^}]*\} (\S+)", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0
