"""Which systemd units run? All of them in one call of `systemctl`."""

import asyncio
import contextlib
from collections.abc import Sequence

from opsfleet_agent.log import logger

TIMEOUT = 2.0
KILL_TIMEOUT = 0.5
SYSTEMCTL = "systemctl"
# systemd's own words for "runs", as in `systemctl is-active`.
RUNNING = frozenset({"active", "reloading", "refreshing"})


class UnitsCheck:
    """Names the units that do not run. When systemd cannot be asked, none of them is known to run."""

    def __init__(self, units: Sequence[str], *, program: str = SYSTEMCTL, timeout: float = TIMEOUT) -> None:
        self._units = units
        self._program = program
        self._timeout = timeout
        self._complaint = ""

    async def failing(self) -> list[str]:
        """Return the names of those units that do not run, in the order of the configuration."""
        if not self._units:
            return []
        try:
            states = parse(await self._ask())
            complaint = "" if len(states) == len(self._units) else "its answer is not understood"
        except TimeoutError:
            states, complaint = [], f"no answer within {self._timeout:g} s"
        except (OSError, ValueError) as error:
            states, complaint = [], str(error)
        if complaint and complaint != self._complaint:
            logger.warning("systemd cannot be asked for units: %s", complaint)
        self._complaint = complaint
        if complaint:
            return list(self._units)
        return [unit for unit, state in zip(self._units, states, strict=True) if state not in RUNNING]

    async def _ask(self) -> str:
        process = await asyncio.create_subprocess_exec(
            self._program,
            "show",
            "--no-pager",
            "--property=Id,ActiveState,SubState,LoadState",
            "--",
            *self._units,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(self._timeout):
                answer, complaint = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=KILL_TIMEOUT)
        if process.returncode != 0:
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise ValueError(lines[0] if lines else f"systemctl ended with {process.returncode}")
        return answer.decode(errors="replace")


def parse(answer: str) -> list[str]:
    """Return the `ActiveState` of each unit in the answer of `systemctl show`: blocks between empty lines, in order.

    A unit that systemd does not know has a block too; it is inactive.
    """
    states = []
    for block in answer.strip().split("\n\n"):
        properties = dict(line.partition("=")[::2] for line in block.splitlines())
        if "ActiveState" in properties:
            states.append(properties["ActiveState"])
    return states
