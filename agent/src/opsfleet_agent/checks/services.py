"""The services that the machine is there for: systemd units and named processes together."""

from opsfleet_agent.checks.processes import ProcessesCheck
from opsfleet_agent.checks.units import UnitsCheck
from opsfleet_agent.log import logger
from opsfleet_agent.wire import ServicesHealth


class ServicesCheck:
    """Counts the services that run and names those that do not."""

    def __init__(self, units: UnitsCheck, processes: ProcessesCheck, total: int) -> None:
        self._units = units
        self._processes = processes
        self._total = total
        self._failing: list[str] = []

    async def check(self) -> ServicesHealth:
        """Return what was found."""
        failing = await self._units.failing() + self._processes.failing()
        if failing != self._failing:
            logger.warning("services that do not run: %s", ", ".join(failing) or "none any more")
            self._failing = failing
        return ServicesHealth(
            healthy=not failing,
            active=self._total - len(failing),
            failed=len(failing),
            total=self._total,
            failing=failing,
        )
