"""A simulated fleet as a child process, for whatever must not share its processor time: benchmarks, demos."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from opsfleet.simulate.addresses import address_of
from opsfleet.simulate.run import RunOptions
from opsfleet.simulate.scenario import Scenario
from opsfleet.simulate.servers import DEFAULT_TOKEN, simulated_registrations

_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class FleetProcess:
    """A child process that simulates `servers` servers."""

    pid: int
    servers: int
    port: int
    token: str

    def url(self, index: int) -> str:
        """Return the `api_url` of server `index`, from 0."""
        return f"http://{address_of(index)}:{self.port}"

    def registrations(self) -> list[dict[str, Any]]:
        """Return what registers the servers with the control plane."""
        return simulated_registrations(self.servers, port=self.port, token=self.token)

    def cpu_seconds(self) -> float:
        """Return the processor time that the child has used so far, in seconds."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def fleet_process(
    servers: int,
    *,
    port: int = 0,
    scenario: Scenario | None = None,
    token: str = DEFAULT_TOKEN,
    core: int | None = None,
) -> Iterator[FleetProcess]:
    """Run a simulated fleet as a child process until the end of the block, on one processor if `core` is given.

    The block begins once every server answers; port 0 takes a free one.

    Raises:
        OSError: when the child does not start; its own words are on stderr.
    """
    options = RunOptions(servers=servers, port=port, token=token, scenario=scenario or Scenario())
    command = [sys.executable, "-m", "opsfleet.simulate"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True) as child:  # noqa: S603 - ourselves
        try:
            if core is not None:
                os.sched_setaffinity(child.pid, {core})
            assert child.stdin is not None
            assert child.stdout is not None
            with child.stdin:
                child.stdin.write(msgspec.json.encode(options))
            line = child.stdout.readline()
            if not line:
                raise OSError("the simulated fleet did not start")
            yield FleetProcess(child.pid, servers, int(line), token)
        finally:
            child.terminate()
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
