"""What the operations need: the services, and the caller."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from opsfleet.domain.access import Caller, Role
from opsfleet.services.access import AccessService
from opsfleet.services.costs import CostService
from opsfleet.services.discovery import DiscoveryService
from opsfleet.services.fleet_gauges import FleetGaugesService
from opsfleet.services.health import HealthService
from opsfleet.services.metrics import MetricsService
from opsfleet.services.readiness import ReadinessService
from opsfleet.services.series import SeriesService
from opsfleet.services.servers import ServerService
from opsfleet.services.summary import SummaryService
from opsfleet.services.uptime import UptimeService
from opsfleet.services.workers import WorkerService


@dataclass(frozen=True, slots=True)
class Services:
    """The services that the API offers."""

    access: AccessService
    servers: ServerService
    health: HealthService
    uptime: UptimeService
    metrics: MetricsService
    costs: CostService
    series: SeriesService
    summary: SummaryService
    workers: WorkerService
    readiness: ReadinessService
    discovery: DiscoveryService
    gauges: FleetGaugesService


_bearer = HTTPBearer(auto_error=False, description="An API token.")


def services(request: Request) -> Services:
    """Return the services of the application."""
    found: Services = request.app.state.services
    return found


def caller(request: Request, _: Annotated[object, Depends(_bearer)]) -> Caller:
    """Establish the caller. Every operation that needs one comes through here."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" and token.strip() else None
    return services(request).access.identify(bearer)


def viewer(found: Annotated[Caller, Depends(caller)]) -> Caller:
    """Require the role of a viewer."""
    found.require(Role.VIEWER)
    return found


def operator(found: Annotated[Caller, Depends(caller)]) -> Caller:
    """Require the role of an operator."""
    found.require(Role.OPERATOR)
    return found


def admin(found: Annotated[Caller, Depends(caller)]) -> Caller:
    """Require the role of an admin."""
    found.require(Role.ADMIN)
    return found


Fleet = Annotated[Services, Depends(services)]
Viewer = Annotated[Caller, Depends(viewer)]
Operator = Annotated[Caller, Depends(operator)]
Admin = Annotated[Caller, Depends(admin)]
