"""What machine this is, how noisy it is, and the CPU time of processes."""

import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


def describe() -> dict[str, Any]:
    """Return the facts that a figure needs beside it."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "noise_percent": noise(),
    }


def noise() -> float:
    """Return the spread of a fixed piece of work: (slowest - fastest) / median of 15 runs, in percent."""
    times = []
    for _ in range(15):
        start = time.process_time()
        sum(range(400_000))
        times.append(time.process_time() - start)
    times.sort()
    return round(100 * (times[-1] - times[0]) / times[len(times) // 2], 1)


def cpu_seconds(*pids: int) -> float:
    """Return the CPU seconds, user and system, of processes and all their descendants, reaped ones included."""
    total = 0.0
    for pid in pids:
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for process in family:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of one process in MB (10^6 bytes)."""
    return psutil.Process(pid).memory_info().rss / 1e6


@dataclass
class Window:
    """CPU and wall time between its making and `close`."""

    pids: tuple[int, ...]

    def __post_init__(self) -> None:
        self._cpu = cpu_seconds(*self.pids)
        self._wall = time.monotonic()
        self.cpu = self.wall = 0.0

    def close(self) -> None:
        """Take the differences."""
        self.cpu = cpu_seconds(*self.pids) - self._cpu
        self.wall = time.monotonic() - self._wall


def pinned(core: int) -> list[str]:
    """Return the start of a command line that keeps a process and its children on one core."""
    cores = os.cpu_count() or 1
    return ["taskset", "-c", str(core % cores)]
