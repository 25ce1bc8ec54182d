"""Which named processes run?

Looking through all processes is the costly part, so a process that was found is only asked whether it is still there,
and the search is repeated no sooner than 200 times its duration after the last: half a percent of one processor.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence

import psutil

SEARCH_SHARE = 0.005


class ProcessesCheck:
    """Names the entries that no process matches; see `matches`."""

    def __init__(self, entries: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries = entries
        self._clock = clock
        self._found: dict[str, psutil.Process] = {}
        self._next_search = clock()

    def failing(self) -> list[str]:
        """Return those entries that no running process matches, in the order of the configuration."""
        self._found = {entry: process for entry, process in self._found.items() if _runs(process)}
        if len(self._found) < len(self._entries) and self._clock() >= self._next_search:
            started = self._clock()
            self._search({entry for entry in self._entries if entry not in self._found})
            ended = self._clock()
            self._next_search = ended + (ended - started) / SEARCH_SHARE
        return [entry for entry in self._entries if entry not in self._found]

    def _search(self, wanted: set[str]) -> None:
        for pid, name, command in _processes():
            for entry in [entry for entry in wanted if matches(entry, name, command)]:
                try:
                    process = psutil.Process(pid)
                except psutil.Error:
                    continue
                if _runs(process):
                    self._found[entry] = process
                    wanted.discard(entry)
            if not wanted:
                return


def matches(entry: str, name: str, command: list[str]) -> bool:
    """Tell whether `entry` is the name of a process or the beginning of its command line.

    The beginning ends where a word ends, and the program may be named with its folder or without. The kernel keeps 15
    bytes of a name, so a longer one is recognized by the command line.
    """
    if entry == name:
        return True
    if not command:
        return False
    line = " ".join(command) + " "
    program, _, _ = command[0].partition(" ")
    return line.startswith(entry + " ") or line[len(os.path.dirname(program)) :].lstrip("/").startswith(entry + " ")


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _processes() -> Iterator[tuple[int, str, list[str]]]:
    """Yield process ids, names and command lines of all other processes.

    Read directly: psutil reads three more files for each process, and keeps what it read.
    """
    own = os.getpid()
    for pid in psutil.pids():
        if pid == own:
            continue
        try:
            with open(f"/proc/{pid}/comm", "rb") as file:
                name = file.read(64).decode(errors="replace").rstrip("\n")
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read(4096).decode(errors="replace").rstrip("\0")
        except OSError:
            continue
        yield pid, name, command.split("\0") if command else []
