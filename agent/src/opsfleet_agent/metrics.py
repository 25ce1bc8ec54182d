"""The metrics document: what `GET /api/v1/metrics/current` answers."""

from opsfleet_agent.components import Components
from opsfleet_agent.config import Config
from opsfleet_agent.sensors.application import ApplicationSensor
from opsfleet_agent.sensors.cpu import CpuSensor
from opsfleet_agent.sensors.disk import DiskSensor
from opsfleet_agent.sensors.memory import memory_percent
from opsfleet_agent.sensors.network import NetworkSensor
from opsfleet_agent.wire import Metrics


class MetricsReporter:
    """Reads every sensor. What a sensor cannot read is None, and the others still count."""

    def __init__(self, config: Config, components: Components) -> None:
        self._components = components
        self._cpu = CpuSensor()
        self._disk = DiskSensor(config.disks)
        self._network = NetworkSensor(config.network_interfaces)
        self._application = ApplicationSensor(config.application_file, config.application_max_age_seconds)

    async def report(self) -> Metrics:
        """Return the document of now."""
        services = await self._components.services.get() if self._components.services is not None else None
        traffic = self._network.measure()
        application = self._application.measure()
        return Metrics(
            cpu_percent=self._cpu.measure(),
            memory_percent=memory_percent(),
            disk_percent=await self._disk.measure(),
            network_rx_bytes=traffic.received if traffic is not None else None,
            network_tx_bytes=traffic.sent if traffic is not None else None,
            active_services=services.active if services is not None else None,
            failed_services=services.failed if services is not None else None,
            total_services=services.total if services is not None else None,
            llm_requests=application.llm_requests,
            llm_cost_usd=application.llm_cost_usd,
            active_users=application.active_users,
            total_users=application.total_users,
        )
